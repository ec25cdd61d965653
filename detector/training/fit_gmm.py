"""Fit a Gaussian mixture with scikit-learn; the number of components is what predicts held-out time best."""

import warnings

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.gmm import Gmm
from detector.training.fitting_rows import (
    FittingRows,
    Progress,
    complete_rows,
    has_enough_values,
    is_worth_having,
    require_enough_values,
)
from detector.training.initial_clusters import initial_clusters

CANDIDATES = (1, 2, 4, 8)
COVARIANCE_FLOOR = 1e-3
"""Added to every variance, relative to the variance of the feature's body."""

_RESTARTS = 3
_MAX_ITERATIONS = 100
_MAX_ROWS = 20_000


def fit_gmm(
    x: FloatArray,
    *,
    lengths: IntArray,
    seed: int,
    n_components: int | None = None,
    progress: Progress | None = None,
) -> Gmm:
    """Fit full covariances by expectation maximisation, several restarts, the likeliest wins.

    Incomplete rows are treated as ``complete_rows`` says. Of more than 20,000 rows, evenly spaced ones
    are used.

    Args:
        x: Standardised residuals, shape (N, D); NaN is missing.
        lengths: Records of each entity, shape (E,), summing to N, each entity's in time order.
        seed: Of the restarts.
        n_components: K; None tries 1, 2, 4, 8 and takes the fewest that predict the last fifth of each
            run best.
        progress: Called as fitting goes on.

    Raises:
        ValueError: The rows cannot be fitted; the message says what to do.
    """
    rows = complete_rows(x, lengths)
    _require_enough(rows.x, n_components or 1)
    candidates = [n_components] if n_components else _affordable(rows)
    total = (len(candidates) if len(candidates) > 1 else 0) + 1

    def report(done: int) -> None:
        if progress is not None:
            progress("fitting gmm", done, total)

    report(0)
    chosen = candidates[0]
    if len(candidates) > 1:
        best = np.full(np.count_nonzero(rows.held_out), -np.inf)
        for done, k in enumerate(candidates, start=1):
            model = _fit(_thin(rows.x[~rows.held_out]), k, [seed])
            log_likelihood = model.log_likelihood(rows.x[rows.held_out])
            if is_worth_having(log_likelihood, best):
                chosen, best = k, log_likelihood
            report(done)
    seeds = list(range(seed, seed + (_RESTARTS if chosen > 1 else 1)))
    model = _fit(_thin(rows.x), chosen, seeds)
    report(total)
    return _in_units_of_x(model, rows)


def _fit(x: FloatArray, n_components: int, seeds: list[int]) -> Gmm:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    fitted = []
    for seed in seeds:
        clusters = initial_clusters(x, n_components, COVARIANCE_FLOOR, seed)
        candidate = GaussianMixture(
            n_components,
            covariance_type="full",
            reg_covar=COVARIANCE_FLOOR,
            max_iter=_MAX_ITERATIONS,
            weights_init=clusters.weights,
            means_init=clusters.means,
            precisions_init=np.linalg.inv(clusters.covariances),
            # Not used, since all is given; scikit-learn's default would cluster once more.
            init_params="random",
            random_state=seed,
        )
        with warnings.catch_warnings():
            # Stopping before convergence costs a little likelihood.
            warnings.simplefilter("ignore", ConvergenceWarning)
            candidate.fit(x)
        fitted.append(candidate)
    best = max(fitted, key=lambda candidate: candidate.lower_bound_)
    return _gmm(best.weights_, best.means_, best.covariances_)


def _gmm(weights: FloatArray, means: FloatArray, covariances: FloatArray) -> Gmm:
    symmetric = 0.5 * (covariances + covariances.swapaxes(1, 2))
    return Gmm(weights / weights.sum(), means, symmetric)


def _in_units_of_x(model: Gmm, rows: FittingRows) -> Gmm:
    arrays = model.arrays()
    return _gmm(
        arrays["weights"],
        arrays["means"] * rows.scale,
        arrays["covariances"] * np.outer(rows.scale, rows.scale),
    )


def _thin(x: FloatArray) -> FloatArray:
    return x[:: -(-len(x) // _MAX_ROWS)]


def _parameters(n_components: int, n_features: int) -> int:
    return n_components * (1 + n_features + n_features * (n_features + 1) // 2) - 1


def _affordable(rows: FittingRows) -> list[int]:
    """Return the candidates that the rows can tell apart: the part not held out must suffice for each."""
    to_fit = rows.x[~rows.held_out]
    affordable = [k for k in CANDIDATES if has_enough_values(to_fit, _parameters(k, to_fit.shape[1]))]
    return affordable if affordable and rows.held_out.any() else [1]


def _require_enough(x: FloatArray, n_components: int) -> None:
    what = f"a Gaussian mixture of {n_components} components"
    require_enough_values(x, _parameters(n_components, x.shape[1]), what)
