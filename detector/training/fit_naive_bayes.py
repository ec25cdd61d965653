"""Fit naive Bayes with hidden classes; held-out time says how many, and which density each feature has.

scikit-learn's mixture of diagonal Gaussians is naive Bayes with bells, so it finds the classes. Where a
histogram predicts a feature better, or values are missing, own expectation maximisation goes on from there.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.log_space import log_sum_exp
from detector.models.naive_bayes import NaiveBayes
from detector.training.feature_estimates import ESTIMATES, VARIANCE_FLOOR, FeatureEstimate
from detector.training.fitting_rows import (
    Progress,
    absurd,
    body_std,
    check_rows,
    has_enough_values,
    held_out_in_time,
    is_worth_having,
    require_enough_values,
)
from detector.training.initial_clusters import initial_clusters

CANDIDATES = (1, 2, 3, 4, 5, 6, 7, 8)

_RESTARTS = 3
_MAX_ITERATIONS = 100
_LEAST_GAIN_NATS = 1e-3
_MAX_ROWS = 20_000
_PLAINEST, *_OTHERS = ESTIMATES


def fit_naive_bayes(
    x: FloatArray,
    *,
    lengths: IntArray,
    seed: int,
    n_classes: int | None = None,
    density: str | None = None,
    progress: Progress | None = None,
) -> NaiveBayes:
    """Fit by expectation maximisation; missing values count for nothing, rows that have some count.

    A value 10,000 standard deviations of its feature's body from the median is an error of measurement
    and counts as missing. Of more than 20,000 rows, evenly spaced ones are used.

    Args:
        x: Standardised residuals, shape (N, D); NaN is missing.
        lengths: Records of each entity, shape (E,), summing to N, each entity's in time order.
        seed: Of the restarts.
        n_classes: C; None tries 1 to 8 and takes the fewest that predict the last fifth of each run best.
        density: Kind of every feature's density, ``gaussian`` or ``histogram``; None takes a Gaussian for
            each feature unless a histogram predicts the last fifth of each run better.
        progress: Called as fitting goes on.

    Raises:
        ValueError: The rows cannot be fitted, or there is no such kind; the message says what to do.
    """
    check_rows(x, lengths)
    if density is not None and density not in ESTIMATES:
        raise ValueError(f"no density is called {density!r}; take one of {', '.join(ESTIMATES)}")
    scale = body_std(x)
    x = np.where(absurd(x, scale), np.nan, x)
    usable = ~np.isnan(x).all(axis=1)
    held_out = held_out_in_time(lengths)
    everything = _Rows.of(x[usable], scale)
    _require_enough(everything.x, n_classes or 1)
    candidates: Sequence[int] = (n_classes,) if n_classes else CANDIDATES
    to_fit, to_judge = x[usable & ~held_out], _thin(x[usable & held_out])
    candidates = [c for c in candidates if has_enough_values(to_fit, _parameters(c, x.shape[1]))]
    must_choose = len(candidates) > 0 and len(to_judge) > 0 and not (n_classes and density)
    total = (len(candidates) if must_choose else 0) + 1

    def report(done: int) -> None:
        if progress is not None:
            progress("fitting naive_bayes", done, total)

    report(0)
    chosen, kinds = n_classes or 1, (density or _PLAINEST,) * x.shape[1]
    if must_choose and (~np.isnan(to_fit)).any(axis=0).all():
        rows = _Rows.of(to_fit, scale)
        best = np.full(len(to_judge), -np.inf)
        for done, c in enumerate(candidates, start=1):
            candidate = _fit(rows, c, density, to_judge, seed)
            log_likelihood = candidate.log_likelihood(to_judge)
            if is_worth_having(log_likelihood, best):
                chosen, kinds, best = c, candidate.kinds, log_likelihood
            report(done)
    starts = [_start(everything, chosen, s) for s in range(seed, seed + (_RESTARTS if chosen > 1 else 1))]
    models = [_maximise(everything, kinds, start) for start in starts]
    report(total)
    return max(models, key=lambda model: _mean_log_likelihood(model, everything))


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is fitted on: N rows with at least one value each, at most 20,000 of them."""

    x: FloatArray
    """Shape (N, D); NaN is missing."""
    filled: FloatArray
    """Shape (N, D), divided by the features' scales, gaps filled with the median: for clustering."""
    observed: BoolArray
    """Shape (N, D)."""
    estimates: tuple[Mapping[str, FeatureEstimate], ...]
    """Of each feature, by kind."""

    @classmethod
    def of(cls, x: FloatArray, scale: FloatArray) -> "_Rows":
        x = _thin(x)
        observed = ~np.isnan(x)
        filled = np.where(observed, x, np.nanmedian(x, axis=0)) / scale
        estimates = tuple(
            {kind: estimate(values, float(own)) for kind, estimate in ESTIMATES.items()}
            for values, own in zip(x.T, scale, strict=True)
        )
        return cls(x, filled, observed, estimates)


def _fit(rows: _Rows, n_classes: int, density: str | None, to_judge: FloatArray, seed: int) -> NaiveBayes:
    responsibilities = _start(rows, n_classes, seed)
    kinds = (density,) * rows.x.shape[1] if density else _best_kinds(rows, responsibilities, to_judge)
    return _maximise(rows, kinds, responsibilities)


def _start(rows: _Rows, n_classes: int, seed: int) -> FloatArray:
    """Return how much of each row belongs to each class under diagonal Gaussians, shape (N, C)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if n_classes == 1:
        return np.ones((len(rows.x), 1))
    clusters = initial_clusters(rows.filled, n_classes, VARIANCE_FLOOR, seed)
    mixture = GaussianMixture(
        n_classes,
        covariance_type="diag",
        reg_covar=VARIANCE_FLOOR,
        max_iter=_MAX_ITERATIONS,
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
        mixture.fit(rows.filled)
    return np.asarray(mixture.predict_proba(rows.filled))


def _best_kinds(rows: _Rows, responsibilities: FloatArray, to_judge: FloatArray) -> tuple[str, ...]:
    """Return for each feature the kind under which held-out rows are likeliest, all others being plain."""
    plain = _estimate(rows, (_PLAINEST,) * len(rows.estimates), responsibilities)
    log_joint = plain.log_joint(to_judge)
    best_kinds = []
    for j, by_kind in enumerate(rows.estimates):
        column = to_judge[:, j : j + 1]
        only = {kind: by_kind[kind].density(responsibilities) for kind in ESTIMATES}
        of_kind = {
            kind: NaiveBayes(np.ones(len(log_joint.T)), [d]).log_joint(column) for kind, d in only.items()
        }
        best_kind, best = _PLAINEST, log_sum_exp(log_joint)
        for kind in _OTHERS:
            log_likelihood = log_sum_exp(log_joint - of_kind[_PLAINEST] + of_kind[kind])
            if is_worth_having(log_likelihood, best):
                best_kind, best = kind, log_likelihood
        best_kinds.append(best_kind)
    return tuple(best_kinds)


def _maximise(
    rows: _Rows,
    kinds: tuple[str, ...],
    responsibilities: FloatArray,
    most_iterations: int = _MAX_ITERATIONS,
) -> NaiveBayes:
    """Estimate, and alternate with expectation until the mean log-likelihood gains 0.001 nats no more."""
    model = _estimate(rows, kinds, responsibilities)
    converged = model.n_classes == 1 or (set(kinds) == {_PLAINEST} and rows.observed.all())
    before = -np.inf
    for _ in range(0 if converged else most_iterations):
        log_joint = model.log_joint(rows.x)
        log_likelihood = log_sum_exp(log_joint)
        mean = float(log_likelihood.mean())
        if mean - before < _LEAST_GAIN_NATS:
            break
        before = mean
        model = _estimate(rows, kinds, np.exp(log_joint - log_likelihood[:, None]))
    return model


def _estimate(rows: _Rows, kinds: tuple[str, ...], responsibilities: FloatArray) -> NaiveBayes:
    weights = responsibilities.mean(axis=0)
    densities = [
        by_kind[kind].density(responsibilities) for kind, by_kind in zip(kinds, rows.estimates, strict=True)
    ]
    return NaiveBayes(weights / weights.sum(), densities)


def _mean_log_likelihood(model: NaiveBayes, rows: _Rows) -> float:
    return float(model.log_likelihood(rows.x).mean())


def _thin(x: FloatArray) -> FloatArray:
    return x[:: max(1, -(-len(x) // _MAX_ROWS))]


def _parameters(n_classes: int, n_features: int) -> int:
    return n_classes * (1 + 2 * n_features) - 1


def _require_enough(x: FloatArray, n_classes: int) -> None:
    what = f"naive Bayes with {n_classes} classes"
    require_enough_values(x, _parameters(n_classes, x.shape[1]), what)
