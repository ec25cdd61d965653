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
    held_out_in_time,
    require_enough_values,
    trimmed_mean,
)

CANDIDATES = (1, 2, 4, 8)
COVARIANCE_FLOOR = 1e-3
"""Added to every variance, relative to the variance of the feature's body."""
LEAST_GAIN_NATS = 0.01
"""What more components must add to the held-out log-likelihood of a record to be worth having."""

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
    candidates = [n_components] if n_components else _affordable(rows.x)
    total = (len(candidates) if len(candidates) > 1 else 0) + 1

    def report(done: int) -> None:
        if progress is not None:
            progress("fitting gmm", done, total)

    report(0)
    chosen = candidates[0]
    if len(candidates) > 1:
        held_out = held_out_in_time(rows.lengths)
        best = -np.inf
        for done, k in enumerate(candidates, start=1):
            model = _fit(_thin(rows.x[~held_out]), k, seed, restarts=1)
            value = trimmed_mean(model.log_likelihood(rows.x[held_out]))
            if value > best + LEAST_GAIN_NATS:
                chosen, best = k, value
            report(done)
    model = _fit(_thin(rows.x), chosen, seed, restarts=_RESTARTS)
    report(total)
    return _in_units_of_x(model, rows)


def _fit(x: FloatArray, n_components: int, seed: int, restarts: int) -> Gmm:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(
        n_components,
        covariance_type="full",
        reg_covar=COVARIANCE_FLOOR,
        n_init=restarts if n_components > 1 else 1,
        max_iter=_MAX_ITERATIONS,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # Stopping early costs a little likelihood; fewer distinct rows than components costs one component.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(x)
    return _gmm(mixture.weights_, mixture.means_, mixture.covariances_)


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


def _affordable(x: FloatArray) -> list[int]:
    return [k for k in CANDIDATES if has_enough_values(x, _parameters(k, x.shape[1]))]


def _require_enough(x: FloatArray, n_components: int) -> None:
    what = f"a Gaussian mixture of {n_components} components"
    require_enough_values(x, _parameters(n_components, x.shape[1]), what)
