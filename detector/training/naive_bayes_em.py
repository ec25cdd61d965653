"""Expectation maximisation for naive Bayes: where it starts, and how it goes on.

Rows of a known regime belong to its class and to no other, whatever the densities say; all other rows belong
to classes as far as the densities make them. So labels teach, and unlabelled rows refine.

References:
    Nigam, McCallum, Thrun and Mitchell (2000), Text classification from labeled and unlabeled documents
    using EM.
"""

import warnings
from collections.abc import Sequence

import numpy as np

from detector.batch import BoolArray, FloatArray
from detector.models.log_space import log_sum_exp
from detector.models.naive_bayes import NaiveBayes
from detector.training.feature_estimates import VARIANCE_FLOOR
from detector.training.fitting_rows import is_rare
from detector.training.initial_clusters import initial_clusters
from detector.training.naive_bayes_rows import Rows

MAX_ITERATIONS = 100

_LEAST_GAIN_NATS = 1e-3
# Rows less likely than this share of the rows of known regimes may be of none of them.
_STRANGE_SHARE = 0.05


def start(rows: Rows, n_classes: int, seed: int) -> FloatArray:
    """Return how much of each row belongs to each class under plain densities, shape (N, C).

    Classes are the known regimes first, then hidden ones.
    """
    if n_classes == 1:
        return np.ones((len(rows.x), 1))
    if (rows.regimes >= 0).all():
        return _indicators(rows, n_classes)
    if rows.n_regimes:
        return _start_from_regimes(rows, n_classes, seed)
    if set(rows.kinds.kinds) == {"continuous"}:
        return _start_from_bells(rows, n_classes, seed)
    clusters = _nearest_cluster(rows.for_clustering, n_classes, seed)
    return responsibilities(rows, maximise(rows, rows.plainest, clusters))


def maximise(
    rows: Rows, densities: Sequence[str], shares: FloatArray, *, converged: bool = False
) -> NaiveBayes:
    """Estimate, and alternate with expectation until the mean log-likelihood gains 0.001 nats no more.

    Args:
        rows: What is fitted on.
        densities: Of each feature.
        shares: How much of each row belongs to each class, shape (N, C), rows summing to one.
        converged: Whether no iteration would change anything but roundings.
    """
    model = estimate(rows, densities, shares)
    before = -np.inf
    for _ in range(0 if converged or model.n_classes == 1 else MAX_ITERATIONS):
        mean = mean_log_likelihood(rows, model)
        if mean - before < _LEAST_GAIN_NATS:
            break
        before = mean
        model = estimate(rows, densities, responsibilities(rows, model))
    return model


def estimate(rows: Rows, densities: Sequence[str], shares: FloatArray) -> NaiveBayes:
    """Return the likeliest model, given how much of each row belongs to each class."""
    weights = shares.mean(axis=0)
    features = [
        by_density[density].density(shares)
        for density, by_density in zip(densities, rows.estimates, strict=True)
    ]
    return NaiveBayes(weights / weights.sum(), features)


def with_background(rows: Rows, model: NaiveBayes) -> NaiveBayes:
    """Return the model with one class of all rows, the last, in place of all rare hidden classes.

    Rows of a rare class stay possible, as improbable as the plainest model has them; see ``is_rare``. Regimes
    that are labelled normal are never rare. A model without a rare class is returned as it is.
    """
    weights = model.arrays()["class_weights"]
    rare = is_rare(weights, len(rows.x))
    rare[: rows.n_regimes] = False
    if not rare.any():
        return model
    shares = responsibilities(rows, model)
    by_row = np.column_stack([shares[:, ~rare], np.ones(len(shares))])
    features = [
        own[density].density(by_row) for density, own in zip(model.kinds, rows.estimates, strict=True)
    ]
    return NaiveBayes(np.append(weights[~rare], weights[rare].sum()), features)


def responsibilities(rows: Rows, model: NaiveBayes) -> FloatArray:
    """Return how much of each row belongs to each class, shape (N, C), known regimes being certain."""
    log_joint = model.log_joint(rows.x)
    shares = np.exp(log_joint - log_sum_exp(log_joint)[:, None])
    labelled = rows.regimes >= 0
    shares[labelled] = _indicators(rows, model.n_classes)[labelled]
    return np.asarray(shares)


def mean_log_likelihood(rows: Rows, model: NaiveBayes) -> float:
    """Return the mean of log p(x), and of log p(x, regime) where it is known: what is maximised."""
    log_joint = model.log_joint(rows.x)
    log_likelihood = log_sum_exp(log_joint)
    labelled = np.flatnonzero(rows.regimes >= 0)
    log_likelihood[labelled] = log_joint[labelled, rows.regimes[labelled]]
    return float(log_likelihood.mean())


def _start_from_bells(rows: Rows, n_classes: int, seed: int) -> FloatArray:
    """scikit-learn's mixture of diagonal Gaussians is naive Bayes with bells."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    clusters = initial_clusters(rows.for_clustering, n_classes, VARIANCE_FLOOR, seed)
    mixture = GaussianMixture(
        n_classes,
        covariance_type="diag",
        reg_covar=VARIANCE_FLOOR,
        max_iter=MAX_ITERATIONS,
        weights_init=clusters.weights,
        means_init=clusters.means,
        precisions_init=1.0 / np.diagonal(clusters.covariances, axis1=1, axis2=2),
        # Not used, since all is given; scikit-learn's default would cluster once more.
        init_params="random",
        random_state=seed,
    )
    with warnings.catch_warnings():
        # Stopping before convergence costs a little likelihood.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(rows.for_clustering)
    return np.asarray(mixture.predict_proba(rows.for_clustering))


def _start_from_regimes(rows: Rows, n_classes: int, seed: int) -> FloatArray:
    """Known regimes as their own rows show them; hidden classes among the rows that these explain worst."""
    labelled = rows.regimes >= 0
    n_regimes = rows.n_regimes
    known = estimate(rows, rows.plainest, _indicators(rows, n_regimes))
    shares = np.zeros((len(rows.x), n_classes))
    shares[:, :n_regimes] = responsibilities(rows, known)
    n_hidden = n_classes - n_regimes
    if n_hidden:
        strange = _strange(known.log_likelihood(rows.x), labelled, n_hidden)
        shares[strange] = 0.0
        shares[strange, n_regimes:] = _nearest_cluster(rows.for_clustering[strange], n_hidden, seed)
    return responsibilities(rows, maximise(rows, rows.plainest, shares))


def _strange(log_likelihood: FloatArray, labelled: BoolArray, n_hidden: int) -> BoolArray:
    """Mark unlabelled rows that known regimes explain worse than nearly all of their own, a few at least."""
    usual = np.quantile(log_likelihood[labelled], _STRANGE_SHARE)
    unlabelled = log_likelihood[~labelled]
    enough = np.sort(unlabelled)[min(len(unlabelled), 2 * n_hidden) - 1]
    return np.asarray(~labelled & (log_likelihood <= max(usual, enough)))


def _nearest_cluster(x: FloatArray, n_clusters: int, seed: int) -> FloatArray:
    """Return 1 for the cluster whose mean is nearest to a row, and 0 for the others, shape (N, K)."""
    means = initial_clusters(x, n_clusters, VARIANCE_FLOOR, seed).means
    distance = ((x[:, None, :] - means) ** 2).sum(axis=2)
    return np.asarray(np.eye(n_clusters)[distance.argmin(axis=1)])


def _indicators(rows: Rows, n_classes: int) -> FloatArray:
    """Return 1 for the class of a row's known regime, and 0 elsewhere, shape (N, C)."""
    return np.asarray((rows.regimes[:, None] == np.arange(n_classes)).astype(np.float64))
