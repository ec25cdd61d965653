"""Where the next record is expected: all predictors, and those that need a few records at most."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Arrays, Prediction, Predictor
from detector.models.cyclic import CyclicPredictor
from detector.models.ewma import EwmaPredictor
from detector.models.level import LevelAndRangePredictor, LevelPredictor
from detector.models.moving_mean import moving_mean
from detector.models.regression import RegressionPredictor
from detector.models.seasonal import SeasonalPredictor
from detector.models.sequences import lagged, starts_of

# A level has moved by half of a step after some 700 records.
_LEVEL_WEIGHT = 0.001
_LARGEST_TAUGHT = 20.0
"""Standard deviations; a value farther out moves the level no more than one so far out."""
_FLOATS_AT_ONCE = 12_800
_FEWEST_AT_ONCE = 16
_FLOATS_WORTH_A_CALL = 50_000


@dataclass(frozen=True, slots=True)
class NoPredictor:
    """Expects the training mean, whatever came before."""

    name: ClassVar[str] = "none"
    each_by_itself: ClassVar[bool] = True
    n_features: int

    @property
    def warmup_records(self) -> int:
        return 0

    @property
    def state_size(self) -> int:
        return 0

    def initial_state(self, n: int) -> FloatArray:
        return np.empty((n, 0))

    def scan(
        self, rows: FloatArray, x: FloatArray, time: FloatArray, lengths: IntArray, model: IntArray
    ) -> Prediction:
        return Prediction(rows, np.zeros_like(x), np.zeros((len(x), 0), dtype=bool))

    def hide(self, rows: FloatArray, hidden: BoolArray) -> FloatArray:
        return rows

    def arrays(self) -> Arrays:
        return {}

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_features: int) -> Self:
        return cls(n_features)


@dataclass(frozen=True, slots=True)
class LastPredictor:
    """Expects what the entity sent last; a value missing there counts as the training mean."""

    name: ClassVar[str] = "last"
    each_by_itself: ClassVar[bool] = True
    n_features: int

    @property
    def warmup_records(self) -> int:
        return 1

    @property
    def state_size(self) -> int:
        return self.n_features

    def initial_state(self, n: int) -> FloatArray:
        return np.full((n, self.n_features), np.nan)

    def scan(
        self, rows: FloatArray, x: FloatArray, time: FloatArray, lengths: IntArray, model: IntArray
    ) -> Prediction:
        rows, past, missing = _last_records(rows, x, lengths)
        return Prediction(rows, past, missing)

    def hide(self, rows: FloatArray, hidden: BoolArray) -> FloatArray:
        return np.where(hidden, np.nan, rows)

    def arrays(self) -> Arrays:
        return {}

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_features: int) -> Self:
        return cls(n_features)


@dataclass(frozen=True, slots=True)
class AutoregressivePredictor:
    """Expects a linear function of the entity's last p records: coefficients per entity, and pooled ones.

    A value missing in the past counts as the training mean, and one outside the range that training leads one
    to expect as the end of it: where training saw nothing no line is known to go on, and a spike would make
    the next record of every feature that leans on it improbable. An entity whose level has slowly left the
    training mean takes the range along, by so much. The state is the last p records, newest first, and the
    level.
    """

    name: ClassVar[str] = "autoregressive"
    each_by_itself: ClassVar[bool] = False
    coefficients: FloatArray
    """Shape (M, p * D, D), newest first: ``expected = intercept + past @ coefficients``."""
    intercept: FloatArray
    """Shape (M, D)."""
    lowest: FloatArray
    """Shape (M, D), at most 0, the training mean."""
    highest: FloatArray
    """Shape (M, D), at least 0."""

    @property
    def order(self) -> int:
        """How many past records count, p."""
        return int(self.coefficients.shape[1]) // self._n_features

    @property
    def warmup_records(self) -> int:
        return self.order

    @property
    def state_size(self) -> int:
        return int(self.coefficients.shape[1]) + self._n_features

    def initial_state(self, n: int) -> FloatArray:
        state = np.full((n, self.state_size), np.nan)
        state[:, -self._n_features :] = 0.0
        return state

    def scan(
        self, rows: FloatArray, x: FloatArray, time: FloatArray, lengths: IntArray, model: IntArray
    ) -> Prediction:
        of_row = np.repeat(model, lengths)
        bounded, level = self._bounded(rows[:, -self._n_features :], x, lengths, of_row)
        past_after, past, missing = _last_records(rows[:, : -self._n_features], bounded, lengths)
        expected = self.intercept.take(of_row, axis=0)
        models = np.flatnonzero(np.bincount(of_row))
        if models.size == 1:
            expected += _times(past, self.coefficients[models[0]])
        elif models.size * _FLOATS_WORTH_A_CALL < len(x) * self.coefficients[0].size:
            # Coefficients copied for every row would cost more than a call for every model.
            for m in models.tolist():
                own = np.flatnonzero(of_row == m)
                expected[own] += _times(past[own], self.coefficients[m])
        else:
            for part in _parts(len(x), self.coefficients[0].size):
                of_part = self.coefficients.take(of_row[part], axis=0)
                expected[part] += np.einsum("np,npd->nd", past[part], of_part)
        return Prediction(np.hstack([past_after, level]), expected, missing)

    def hide(self, rows: FloatArray, hidden: BoolArray) -> FloatArray:
        past = np.where(hidden, np.nan, rows[:, : -self._n_features])
        return np.hstack([past, rows[:, -self._n_features :]])

    def arrays(self) -> Arrays:
        return {
            "coefficients": self.coefficients,
            "intercept": self.intercept,
            "lowest": self.lowest,
            "highest": self.highest,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_features: int) -> Self:
        predictor = cls(arrays["coefficients"], arrays["intercept"], arrays["lowest"], arrays["highest"])
        n_models = predictor.intercept.shape[0]
        if predictor.intercept.shape != (n_models, n_features):
            raise ValueError(f"intercept {predictor.intercept.shape} must be (M, {n_features})")
        shape = predictor.coefficients.shape
        order = shape[1] // n_features if len(shape) == 3 else 0
        if order < 1 or shape != (n_models, order * n_features, n_features):
            raise ValueError(
                f"coefficients {shape} must be ({n_models}, p * {n_features}, {n_features}), p >= 1"
            )
        if not (np.isfinite(predictor.coefficients).all() and np.isfinite(predictor.intercept).all()):
            raise ValueError("coefficients or intercept hold a value that is not finite")
        lowest, highest = predictor.lowest, predictor.highest
        same_shape = lowest.shape == highest.shape == predictor.intercept.shape
        if not (same_shape and (lowest <= 0).all() and (highest >= 0).all()):
            raise ValueError(
                f"lowest {lowest.shape} and highest {highest.shape} must be ({n_models}, {n_features}), "
                "with 0 between"
            )
        return predictor

    @property
    def _n_features(self) -> int:
        return int(self.coefficients.shape[2])

    def _bounded(
        self, level: FloatArray, x: FloatArray, lengths: IntArray, of_row: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return records as their successors see them, shape (N, D), and each entity's level after."""
        present = ~np.isnan(x)
        weight = np.where(present, _LEVEL_WEIGHT, 0.0)
        taught = np.where(present, np.clip(x, -_LARGEST_TAUGHT, _LARGEST_TAUGHT), 0.0)
        before, after = moving_mean(level, taught, weight, lengths)
        lowest = self.lowest.take(of_row, axis=0) + np.minimum(before, 0.0)
        highest = self.highest.take(of_row, axis=0) + np.maximum(before, 0.0)
        return np.clip(x, lowest, highest), after


PREDICTORS: dict[str, type[Predictor]] = {
    "none": NoPredictor,
    "last": LastPredictor,
    "ewma": EwmaPredictor,
    "level": LevelPredictor,
    "level_and_range": LevelAndRangePredictor,
    "autoregressive": AutoregressivePredictor,
    "regression": RegressionPredictor,
    "seasonal": SeasonalPredictor,
    "cyclic": CyclicPredictor,
}


def predict(
    predictor: Predictor,
    columns: IntArray | None,
    rows: FloatArray,
    x: FloatArray,
    time: FloatArray,
    lengths: IntArray,
    model: IntArray,
) -> Prediction:
    """Predict records of D features of which a predictor knows some: of the others 0 is expected.

    Nothing is expected from the others either: they are not among the past values that count.

    Args:
        predictor: Of the features in ``columns`` alone.
        columns: Which ones, shape (C,); None: all.
        rows: As in ``Predictor.scan``, like all that follow.
        x: Shape (N, D).
        time: Shape (N,).
        lengths: Shape (E,).
        model: Shape (E,).
    """
    if columns is None:
        return predictor.scan(rows, x, time, lengths, model)
    known = predictor.scan(rows, x[:, columns], time, lengths, model)
    expected = np.zeros(x.shape)
    expected[:, columns] = known.expected
    if known.spread is None:
        return Prediction(known.rows, expected, known.past_missing)
    spread = np.ones(x.shape)
    spread[:, columns] = known.spread
    return Prediction(known.rows, expected, known.past_missing, spread)


def predictor_from_arrays(name: str, arrays: Arrays, n_features: int) -> Predictor:
    """Rebuild the predictor called ``name``.

    Raises:
        ValueError: There is no such predictor, or the arrays do not fit it.
    """
    if name not in PREDICTORS:
        raise ValueError(f"no predictor is called {name!r}; this version knows {', '.join(PREDICTORS)}")
    return PREDICTORS[name].from_arrays(arrays, n_features)


def _times(past: FloatArray, coefficients: FloatArray) -> FloatArray:
    """Return ``past @ coefficients``, a row with the same bits in any batch."""
    product = np.empty((len(past), coefficients.shape[1]))
    for part in _parts(len(past), coefficients.size):
        # einsum adds up in the same order for any number of rows; a matrix product would not.
        np.einsum("np,pd->nd", past[part], coefficients, out=product[part])
    return product


def _parts(rows: int, size: int) -> list[slice]:
    """Return few rows at a time, so that their coefficients, ``size`` each, stay in the processor's cache."""
    at_once = max(_FEWEST_AT_ONCE, _FLOATS_AT_ONCE // size)
    return [slice(start, start + at_once) for start in range(0, rows, at_once)]


def _last_records(
    rows: FloatArray, x: FloatArray, lengths: IntArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return the state after, and the p records before each row, newest first: NaN as 0, and where it was."""
    starts = starts_of(lengths)
    d = x.shape[1]
    # The newest but k of a row is the newest but k - 1 of the row before.
    newest, lags = x, []
    for j in range(0, rows.shape[1], d):
        newest = lagged(newest, rows[:, j : j + d], starts)
        lags.append(newest)
    past = lags[0] if len(lags) == 1 else np.hstack(lags)
    missing = np.isnan(past)
    last = starts + lengths - 1
    after = x[last] if len(lags) == 1 else np.hstack([x[last], past[last, :-d]])
    return after, np.where(missing, 0.0, past), missing
