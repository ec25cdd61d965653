"""A family of an entity's own: the pooled one, moved towards the entity's rows.

Expectation maximisation starts at the pooled family and keeps its shape, so an entity takes a few iterations
instead of restarts, and component k stays the entity's version of the fleet's component k.

References:
    Gauvain and Lee (1994), Maximum a posteriori estimation for multivariate Gaussian mixture observations
    of Markov chains.
    Reynolds, Quatieri and Dunn (2000), Speaker verification using adapted Gaussian mixture models.
"""

import numpy as np

from detector.batch import FloatArray
from detector.models.contract import Arrays
from detector.models.gmm import Gmm
from detector.models.naive_bayes import NaiveBayes
from detector.training.fit_gmm import COVARIANCE_FLOOR
from detector.training.fitting import Fitting
from detector.training.fitting_rows import absurd, body_std, check_rows, complete_rows, require_enough_values
from detector.training.naive_bayes_em import maximise
from detector.training.naive_bayes_rows import FeatureKinds, Rows

# A covariance of D features needs about D rows to be one at all; the pooled one weighs as much as twice that.
_PRIOR_ROWS_PER_FEATURE = 2.0
# How often the fleet visits a component says little of how often an entity does.
_PRIOR_ROWS_OF_WEIGHTS = 0.1
_MAX_ITERATIONS = 50
_LEAST_GAIN_NATS = 1e-3


def adapt_gmm(pooled: Gmm, fitting: Fitting) -> Gmm:
    """Fit a mixture with the pooled one as prior, so that few rows move it little.

    Every component has, beside the entity's rows, 2 D rows' worth of what it is in the pooled mixture: the
    mode under a conjugate prior. A component that the entity hardly visits stays where it was, and none
    collapses. Incomplete rows are treated as ``complete_rows`` says.

    Args:
        pooled: Where it starts, and what it is drawn to.
        fitting: The entity's.

    Raises:
        ValueError: The rows cannot be fitted; the message says what to do.
    """
    rows = complete_rows(fitting.x, fitting.lengths)
    x, floor, prior = rows.x * rows.scale, COVARIANCE_FLOOR * rows.scale**2, pooled.arrays()
    no_state, no_gap = pooled.initial_state(len(x)), np.full(len(x), np.nan)
    model, before = pooled, -np.inf
    for _ in range(_MAX_ITERATIONS):
        mean = float(model.log_likelihood(x).mean())
        if mean - before < _LEAST_GAIN_NATS:
            break
        before = mean
        model = _maximise_gmm(prior, x, model.latent(no_state, x, no_gap), floor)
    return model


def adapt_naive_bayes(pooled: NaiveBayes, fitting: Fitting) -> NaiveBayes:
    """Fit naive Bayes with as many classes and the same kinds of densities as the pooled one.

    Args:
        pooled: Where it starts.
        fitting: The entity's.

    Raises:
        ValueError: The rows are too few, or cannot be fitted; the message says what to do.
    """
    check_rows(fitting.x, fitting.lengths)
    discrete, regime = fitting.discrete, fitting.regime
    kinds, sizes = (None, None) if discrete is None else (discrete.kinds, discrete.n_categories)
    features = FeatureKinds.of(fitting.x, kinds, sizes)
    scale = body_std(fitting.x)
    x = np.where(absurd(fitting.x, scale) & features.is_number, np.nan, fitting.x)
    usable = ~np.isnan(x).all(axis=1)
    regime = np.full(len(x), -1) if regime is None else regime
    c, d = pooled.n_classes, pooled.n_features
    require_enough_values(x[usable], c * (1 + 2 * d) - 1, f"naive Bayes with {c} classes")
    rows = Rows.of(x[usable], scale, regime[usable], features, [(kind,) for kind in pooled.kinds])
    n = len(rows.x)
    shares = pooled.latent(pooled.initial_state(n), rows.x, np.full(n, np.nan))
    return maximise(rows, pooled.kinds, shares)


def _maximise_gmm(prior: Arrays, x: FloatArray, responsibilities: FloatArray, floor: FloatArray) -> Gmm:
    """Return the mixture whose components have the moments of their rows and of the prior's together.

    Args:
        prior: Arrays of the pooled mixture of K components.
        x: Shape (N, D), complete.
        responsibilities: Shape (N, K).
        floor: Added to every variance, shape (D,).
    """
    prior_rows = _PRIOR_ROWS_PER_FEATURE * x.shape[1]
    rows = responsibilities.sum(axis=0) + prior_rows
    weights = responsibilities.sum(axis=0) + _PRIOR_ROWS_OF_WEIGHTS * prior["weights"]
    means = (responsibilities.T @ x + prior_rows * prior["means"]) / rows[:, None]
    # Both kinds of rows spread about the new mean.
    difference = x - means[:, None]
    shift = prior["means"] - means
    if prior["covariances"].ndim == 2:
        own = np.einsum("nk,knd->kd", responsibilities, difference**2)
        covariances = (own + prior_rows * (prior["covariances"] + shift**2)) / rows[:, None] + floor
        return Gmm(weights / weights.sum(), means, covariances)
    weighted = responsibilities.T[:, :, None] * difference
    own = weighted.swapaxes(1, 2) @ difference
    covariances = own + prior_rows * (prior["covariances"] + shift[:, :, None] * shift[:, None, :])
    if len(prior["covariances"]) < len(rows):
        covariances = covariances.sum(axis=0, keepdims=True) / rows.sum()
    else:
        covariances /= rows[:, None, None]
    covariances = 0.5 * (covariances + covariances.swapaxes(1, 2)) + np.diag(floor)
    return Gmm(weights / weights.sum(), means, covariances)
