"""Fit a Gaussian mixture with scikit-learn; held-out time says how many components, and of which shape."""

import warnings
from typing import NamedTuple

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.gmm import Gmm
from detector.models.stacked_gmm import full_covariances
from detector.training.fitting_rows import (
    FittingRows,
    Progress,
    Record,
    complete_rows,
    has_enough_values,
    is_rare,
    is_worth_having,
    require_enough_values,
)
from detector.training.initial_clusters import Clusters, initial_clusters

CANDIDATES = (1, 2, 4, 8)
COVARIANCES = ("diagonal", "tied", "full")
COVARIANCE_FLOOR = 1e-3
"""Added to every variance, relative to the variance of the feature's body."""

_RESTARTS = 3
_MAX_ITERATIONS = 100
_MAX_ROWS = 20_000
_NAME_IN_SKLEARN = {"diagonal": "diag", "tied": "tied", "full": "full"}


class _Candidate(NamedTuple):
    """One mixture among those to choose from."""

    covariance: str
    n_components: int

    def parameters(self, n_features: int) -> int:
        k, triangle = self.n_components, n_features * (n_features + 1) // 2
        of_covariances = {"diagonal": k * n_features, "tied": triangle, "full": k * triangle}
        return k - 1 + k * n_features + of_covariances[self.covariance]


def fit_gmm(
    x: FloatArray,
    *,
    lengths: IntArray,
    seed: int,
    n_components: int | None = None,
    covariance: str | None = None,
    progress: Progress | None = None,
    record: Record | None = None,
) -> Gmm:
    """Fit by expectation maximisation, several restarts, the likeliest wins.

    Incomplete rows are treated as ``complete_rows`` says. Of more than 20,000 rows, evenly spaced ones
    are used. A mixture with more parameters is taken only where it predicts the last fifth of each run
    better, and is not even tried with fewer than five values per parameter: few rows of many features
    lead to diagonal covariances.

    Unless the number of components is given, rare ones give way to a background: see ``with_background``.

    Args:
        x: Standardised residuals, shape (N, D); NaN is missing.
        lengths: Records of each entity, shape (E,), summing to N, each entity's in time order.
        seed: Of the restarts.
        n_components: K; None tries 1, 2, 4 and 8.
        covariance: ``diagonal``, ``tied`` (all components share one) or ``full``; None tries all.
        progress: Called as fitting goes on.
        record: Told how well each candidate does.

    Raises:
        ValueError: The rows cannot be fitted, or there is no such covariance; the message says what to do.
    """
    if covariance is not None and covariance not in COVARIANCES:
        raise ValueError(f"no covariance is called {covariance!r}; take one of {', '.join(COVARIANCES)}")
    rows = complete_rows(x, lengths)
    candidates = _candidates(rows, n_components, covariance)
    total = (len(candidates) if len(candidates) > 1 else 0) + 1

    def report(done: int) -> None:
        if progress is not None:
            progress("fitting gmm", done, total)

    report(0)
    chosen = candidates[0]
    if len(candidates) > 1:
        to_fit, to_judge = _thin(rows.x[~rows.held_out]), rows.x[rows.held_out]
        clusters = {
            k: initial_clusters(to_fit, k, COVARIANCE_FLOOR, seed)
            for k in {c.n_components for c in candidates}
        }
        best = np.full(len(to_judge), -np.inf)
        for done, candidate in enumerate(candidates, start=1):
            model = _fit(to_fit, candidate.covariance, [clusters[candidate.n_components]])
            if n_components is None:
                model = with_background(model, to_fit)
            log_likelihood = model.log_likelihood(to_judge)
            if record is not None:
                measure = f"median log-likelihood of held-back rows, nats, {candidate.covariance} covariances"
                record(measure, "components", candidate.n_components, float(np.median(log_likelihood)))
            if is_worth_having(log_likelihood, best):
                chosen, best = candidate, log_likelihood
            report(done)
    seeds = range(seed, seed + (_RESTARTS if chosen.n_components > 1 else 1))
    to_fit = _thin(rows.x)
    starts = [initial_clusters(to_fit, chosen.n_components, COVARIANCE_FLOOR, s) for s in seeds]
    model = _fit(to_fit, chosen.covariance, starts)
    if n_components is None:
        model = with_background(model, to_fit)
    report(total)
    return _in_units_of_x(model, rows)


def with_background(model: Gmm, x: FloatArray) -> Gmm:
    """Return the mixture with one bell over all rows, the last component, in place of all rare components.

    Rows of a rare component stay possible, as improbable as the broadest mixture has them; see ``is_rare``.
    A mixture without a rare component is returned as it is.

    Args:
        model: A mixture of K components.
        x: The rows it was fitted on, shape (N, D), each feature on a scale of one.
    """
    arrays = model.arrays()
    weights, means, covariances = arrays["weights"], arrays["means"], arrays["covariances"]
    rare = is_rare(weights, len(x))
    if not rare.any():
        return model
    if model.covariance == "diagonal":
        spread = x.var(axis=0) + COVARIANCE_FLOOR
    else:
        covariances = full_covariances(model)
        spread = np.atleast_2d(np.cov(x.T, bias=True)) + COVARIANCE_FLOOR * np.eye(x.shape[1])
    return _gmm(
        np.append(weights[~rare], weights[rare].sum()),
        np.vstack([means[~rare], x.mean(axis=0)]),
        np.concatenate([covariances[~rare], spread[None]]),
    )


def _candidates(rows: FittingRows, n_components: int | None, covariance: str | None) -> list[_Candidate]:
    """Return the mixtures that the rows can tell apart, those with fewer parameters first.

    Raises:
        ValueError: There are too few rows for any of them.
    """
    d = rows.x.shape[1]
    # Of a single feature every covariance is diagonal, and one component shares with none.
    shapes = (covariance,) if covariance else COVARIANCES if d > 1 else COVARIANCES[:-1]
    candidates = [
        _Candidate(shape, k)
        for shape in shapes
        for k in ((n_components,) if n_components else CANDIDATES)
        if k > 1 or shape != "tied" or covariance
    ]
    candidates.sort(key=lambda candidate: candidate.parameters(d))
    fewest = candidates[0]
    what = f"a Gaussian mixture of {fewest.n_components} components with {fewest.covariance} covariances"
    require_enough_values(rows.x, fewest.parameters(d), what)
    to_fit = rows.x[~rows.held_out]
    # The part not held out must suffice for each.
    affordable = [c for c in candidates if has_enough_values(to_fit, c.parameters(d))]
    return affordable if affordable and rows.held_out.any() else [fewest]


def _fit(x: FloatArray, covariance: str, starts: list[Clusters]) -> Gmm:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    fitted = []
    for start in starts:
        candidate = GaussianMixture(
            len(start.weights),
            covariance_type=_NAME_IN_SKLEARN[covariance],
            reg_covar=COVARIANCE_FLOOR,
            max_iter=_MAX_ITERATIONS,
            weights_init=start.weights,
            means_init=start.means,
            precisions_init=_precisions(covariance, start),
            # Not used, since all is given; scikit-learn's default would cluster once more.
            init_params="random",
            random_state=0,
        )
        with warnings.catch_warnings():
            # Stopping before convergence costs a little likelihood.
            warnings.simplefilter("ignore", ConvergenceWarning)
            candidate.fit(x)
        fitted.append(candidate)
    best = max(fitted, key=lambda candidate: candidate.lower_bound_)
    covariances = best.covariances_[None] if covariance == "tied" else best.covariances_
    return _gmm(best.weights_, best.means_, covariances)


def _precisions(covariance: str, start: Clusters) -> FloatArray:
    if covariance == "diagonal":
        return np.asarray(1.0 / np.diagonal(start.covariances, axis1=1, axis2=2))
    if covariance == "tied":
        return np.asarray(np.linalg.inv(np.tensordot(start.weights, start.covariances, axes=1)))
    return np.asarray(np.linalg.inv(start.covariances))


def _gmm(weights: FloatArray, means: FloatArray, covariances: FloatArray) -> Gmm:
    if covariances.ndim == 3:
        covariances = 0.5 * (covariances + covariances.swapaxes(1, 2))
    return Gmm(weights / weights.sum(), means, covariances)


def _in_units_of_x(model: Gmm, rows: FittingRows) -> Gmm:
    arrays = model.arrays()
    unit = rows.scale**2 if model.covariance == "diagonal" else np.outer(rows.scale, rows.scale)
    return _gmm(arrays["weights"], arrays["means"] * rows.scale, arrays["covariances"] * unit)


def _thin(x: FloatArray) -> FloatArray:
    return x[np.linspace(0, len(x) - 1, min(len(x), _MAX_ROWS)).astype(np.int64)]
