"""Fit a predictor: ridge regression on the last records, or a smoothing weight, per entity and pooled."""

from typing import NamedTuple, Self

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.contract import Predictor
from detector.models.ewma import EwmaPredictor
from detector.models.level import LevelAndRangePredictor, LevelPredictor
from detector.models.local_time import UTC, LocalTime
from detector.models.predictors import PREDICTORS, AutoregressivePredictor, LastPredictor, NoPredictor
from detector.models.regression import N_REGRESSORS, RegressionPredictor
from detector.models.scaling import NEGLIGIBLE
from detector.models.sequences import lagged, rows_of_each, starts_of
from detector.training.fit_cyclic import fit_cyclic
from detector.training.fit_seasonal import fit_seasonal

# In units of one standardised row: ten rows' worth of belief that nothing depends on anything.
_RIDGE = 10.0
# A single absurd row must not bend the coefficients.
_LARGEST = 20.0
LARGEST_ORDER = 24
# So many rows may be followed by values beyond their range, by as much as it is wide; fewer, by more.
_ROWS_OF_A_RANGE = 1_000
# The smoothest first.
_WEIGHTS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)


class Extremes(NamedTuple):
    """How low and high the values of D features go, under each of M models."""

    lowest: FloatArray
    """Shape (M, D); NaN of what is always missing."""
    highest: FloatArray
    """Shape (M, D)."""
    rows: IntArray
    """How many tell, shape (M,)."""

    @classmethod
    def of(cls, values: FloatArray, of_row: IntArray, n_models: int) -> Self:
        """Look at rows, shape (N, D), NaN is missing; all of them tell of the last model.

        Args:
            values: At least one row.
            of_row: Which model each row shapes, shape (N,), in [0, n_models).
            n_models: A model without rows has the extremes of all.
        """
        own = rows_of_each(of_row, n_models)
        parts = [values if m == n_models - 1 or not own[m].size else values[own[m]] for m in range(n_models)]
        return cls(
            np.stack([np.fmin.reduce(part, axis=0) for part in parts]),
            np.stack([np.fmax.reduce(part, axis=0) for part in parts]),
            np.array([len(part) for part in parts]),
        )


def fit_predictor(
    name: str,
    z: FloatArray,
    time: FloatArray,
    lengths: IntArray,
    model: IntArray,
    n_models: int,
    order: int = 1,
    extremes: Extremes | None = None,
    local_time: LocalTime = UTC,
) -> Predictor:
    """Fit the predictor called ``name``.

    Args:
        name: One of ``PREDICTORS``.
        z: Standardised records, entity after entity, shape (N, D); NaN is missing.
        time: Seconds since 1970 UTC, shape (N,), rising within an entity.
        lengths: Records of each entity, shape (E,).
        model: Which model each entity shapes, shape (E,), in [0, n_models); all shape the last, pooled one.
        n_models: Entities with coefficients of their own, plus one.
        order: Past records that ``autoregressive`` leans on, 1 to 24; of no meaning to the others.
        extremes: Of standardised normal records, those that fit nothing among them: up to there past values
            count in ``autoregressive``. None: of ``z``.
        local_time: Whose time of day and week counts in ``seasonal`` and ``regression``.

    Raises:
        ValueError: There is no such predictor or order, or the time is too short for a profile of the day.
    """
    if name == "none":
        return NoPredictor(z.shape[1])
    if name == "last":
        return LastPredictor(z.shape[1])
    if name == "ewma":
        return _fit_ewma(z, time, lengths, model, n_models)
    if name == "level":
        return LevelPredictor(z.shape[1])
    if name == "level_and_range":
        return LevelAndRangePredictor(z.shape[1])
    if name == "regression":
        return _fit_regression(z, lengths, model, n_models, local_time)
    if name == "seasonal":
        return fit_seasonal(z, time, lengths, model, n_models, local_time)
    if name == "cyclic":
        return fit_cyclic(z, time, lengths, model, n_models)
    if name != "autoregressive":
        raise ValueError(f"no predictor is called {name!r}; this version knows {', '.join(PREDICTORS)}")
    if not 1 <= order <= LARGEST_ORDER:
        raise ValueError(f"order {order} of predictor autoregressive must be from 1 to {LARGEST_ORDER}")
    if extremes is None:
        extremes = Extremes.of(z, np.repeat(model, lengths), n_models)
    return _fit_autoregressive(z, lengths, model, n_models, order, extremes)


def _fit_ewma(
    z: FloatArray, time: FloatArray, lengths: IntArray, model: IntArray, n_models: int
) -> EwmaPredictor:
    """Take the weight whose mean comes nearest to the value after it; of equals, the smoother.

    A value takes no part in what is expected of it, so its residual is a held-out one.
    """
    bounded = np.clip(z, -_LARGEST, _LARGEST)
    of_row = np.repeat(model, lengths)
    loss = np.empty((len(_WEIGHTS), n_models))
    for i, weight in enumerate(_WEIGHTS):
        predictor = EwmaPredictor(np.full(n_models, weight), z.shape[1])
        prediction = predictor.scan(predictor.initial_state(len(lengths)), bounded, time, lengths, model)
        squared = np.where(np.isnan(bounded), 0.0, (bounded - prediction.expected) ** 2).sum(axis=1)
        loss[i] = np.bincount(of_row, squared, n_models)
        loss[i, -1] = squared.sum()
    best = loss.argmin(axis=0)
    shaped = np.isin(np.arange(n_models), model)
    return EwmaPredictor(np.array(_WEIGHTS)[np.where(shaped, best, best[-1])], z.shape[1])


def _fit_autoregressive(
    z: FloatArray, lengths: IntArray, model: IntArray, n_models: int, order: int, extremes: Extremes
) -> AutoregressivePredictor:
    """Ridge regression; an entity's coefficients are shrunk towards the pooled ones instead of towards 0.

    A missing value counts as the mean, in the past as in the record predicted, as it does at scoring.
    """
    d = z.shape[1]
    filled = np.clip(np.nan_to_num(z, nan=0.0), -_LARGEST, _LARGEST)
    starts = starts_of(lengths)
    lags = [filled]
    for _ in range(order):
        lags.append(lagged(lags[-1], np.zeros((len(lengths), d)), starts))
    has_past = np.arange(len(z)) - np.repeat(starts, lengths) >= order
    own = rows_of_each(np.repeat(model, lengths), n_models)

    # The intercept is a feature that is always one, and alone is not shrunk.
    design = np.hstack([np.ones((len(z), 1)), *lags[1:]])
    penalty = np.diag([0.0] + [_RIDGE] * (order * d))
    pooled = _solve(design[has_past], filled[has_past], penalty, np.zeros((order * d + 1, d)))
    stacked = np.repeat(pooled[None], n_models, axis=0)
    for m in range(n_models - 1):
        rows = own[m][has_past[own[m]]]
        if rows.size:
            own_penalty = penalty.copy()
            own_penalty[0, 0] = _RIDGE
            stacked[m] = _solve(design[rows], filled[rows], own_penalty, pooled)
    lowest, highest = _range(extremes)
    return AutoregressivePredictor(stacked[:, 1:], stacked[:, 0], lowest, highest)


def _range(extremes: Extremes) -> tuple[FloatArray, FloatArray]:
    """Return up to where past values count, shape (M, D) each: the fewer rows, the farther beyond them."""
    lowest, highest = (np.clip(np.nan_to_num(end), -_LARGEST, _LARGEST) for end in extremes[:2])
    beyond = (highest - lowest) * (_ROWS_OF_A_RANGE / extremes.rows)[:, None]
    return np.minimum(lowest - beyond, 0.0), np.maximum(highest + beyond, 0.0)


def _fit_regression(
    z: FloatArray, lengths: IntArray, model: IntArray, n_models: int, local_time: LocalTime
) -> RegressionPredictor:
    """Ridge regression of every feature on its last two values; what is usual at an hour is learnt later.

    An entity's coefficients are shrunk towards the pooled ones. A missing value counts as the mean.
    """
    d = z.shape[1]
    filled = np.clip(np.nan_to_num(z, nan=0.0), -_LARGEST, _LARGEST)
    starts = starts_of(lengths)
    last = lagged(filled, np.zeros((len(lengths), d)), starts)
    before_last = lagged(last, np.zeros((len(lengths), d)), starts)
    has_past = np.arange(len(z)) - np.repeat(starts, lengths) >= 2
    own_rows = rows_of_each(np.repeat(model, lengths), n_models)
    coefficients, variance = np.zeros((n_models, N_REGRESSORS, d)), np.ones((n_models, d))
    penalty = np.diag([0.0, _RIDGE, _RIDGE])
    own_penalty = np.diag([_RIDGE] * 3)
    for j in range(d):
        design = np.column_stack([np.ones(len(z)), last[:, j], before_last[:, j]])
        target = filled[:, j : j + 1]
        pooled = _solve(design[has_past], target[has_past], penalty, np.zeros((3, 1)))
        coefficients[:, :3, j] = pooled[:, 0]
        variance[:, j] = _body_variance(target[has_past] - design[has_past] @ pooled)
        for m in range(n_models - 1):
            rows = own_rows[m][has_past[own_rows[m]]]
            if rows.size:
                own = _solve(design[rows], target[rows], own_penalty, pooled)
                coefficients[m, :3, j] = own[:, 0]
                variance[m, j] = _body_variance(target[rows] - design[rows] @ own)
    return RegressionPredictor(coefficients, variance, local_time)


def _body_variance(residual: FloatArray) -> float:
    """Return the mean square, in which a single absurd row does not hide what is usual; positive."""
    squares = residual**2
    return max(float(np.minimum(squares, 25.0 * np.median(squares)).mean()), 1e-4) if squares.size else 1.0


def _solve(design: FloatArray, target: FloatArray, penalty: FloatArray, centre: FloatArray) -> FloatArray:
    """Minimise |target - design A|^2 + |A - centre|^2 weighted by ``penalty``."""
    gram = design.T @ design + penalty + 1e-9 * np.eye(len(penalty))
    solved: FloatArray = centre + np.linalg.solve(gram, design.T @ (target - design @ centre))
    return solved


def fit_residual_scale(residual: FloatArray, z: FloatArray, model: IntArray, n_models: int) -> FloatArray:
    """Measure what a predictor leaves over, per model and feature.

    Args:
        residual: Standardised record minus expectation, shape (N, D); NaN is missing.
        z: Standardised records, shape (N, D).
        model: Of each row, shape (N,).
        n_models: Entities with a scale of their own, plus one.

    Returns:
        Shape (n_models, D), positive: at least a hundredth of the feature's own scale, and 1 for a feature
        that never varied, or only by rounding.
    """
    scale = np.empty((n_models, residual.shape[1]))
    own = rows_of_each(model, n_models)
    for m in range(n_models):
        rows = own[m] if m < n_models - 1 else slice(None)
        left_over = residual[rows]
        present = ~np.isnan(left_over)
        n = present.sum(axis=0)
        bounded = np.clip(np.where(present, left_over, 0.0), -_LARGEST, _LARGEST)
        std = np.sqrt((bounded**2).sum(axis=0) / np.maximum(n, 1))
        varies = (np.where(present, np.abs(z[rows]), 0.0) > NEGLIGIBLE).any(axis=0)
        scale[m] = np.where(varies, np.maximum(std, 0.01), 1.0)
    return scale
