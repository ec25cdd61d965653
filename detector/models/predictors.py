"""Where the next record is expected: all predictors, and those that need a few records at most."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Arrays, Prediction, Predictor
from detector.models.ewma import EwmaPredictor
from detector.models.level import LevelAndRangePredictor, LevelPredictor
from detector.models.regression import RegressionPredictor
from detector.models.seasonal import SeasonalPredictor
from detector.models.sequences import lagged, starts_of

_FLOATS_AT_ONCE = 12_800
_FEWEST_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class NoPredictor:
    """Expects the training mean, whatever came before."""

    name: ClassVar[str] = "none"
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

    A value missing in the past counts as the training mean. The state is the last p records, newest first.
    """

    name: ClassVar[str] = "autoregressive"
    coefficients: FloatArray
    """Shape (M, p * D, D), newest first: ``expected = intercept + past @ coefficients``."""
    intercept: FloatArray
    """Shape (M, D)."""

    @property
    def order(self) -> int:
        """How many past records count, p."""
        return self.state_size // int(self.coefficients.shape[2])

    @property
    def warmup_records(self) -> int:
        return self.order

    @property
    def state_size(self) -> int:
        return int(self.coefficients.shape[1])

    def initial_state(self, n: int) -> FloatArray:
        return np.full((n, self.state_size), np.nan)

    def scan(
        self, rows: FloatArray, x: FloatArray, time: FloatArray, lengths: IntArray, model: IntArray
    ) -> Prediction:
        rows, past, missing = _last_records(rows, x, lengths)
        of_row = np.repeat(model, lengths)
        expected = self.intercept.take(of_row, axis=0)
        alone = self.coefficients[of_row[0]] if of_row.size and (of_row == of_row[0]).all() else None
        # Few rows at a time, so that their coefficients stay in the processor's cache.
        rows_at_once = max(_FEWEST_AT_ONCE, _FLOATS_AT_ONCE // self.coefficients[0].size)
        for start in range(0, len(x), rows_at_once):
            part = slice(start, start + rows_at_once)
            # einsum adds up in the same order for any number of rows; a matrix product would not.
            if alone is not None:
                expected[part] += np.einsum("np,pd->nd", past[part], alone)
            else:
                own = self.coefficients.take(of_row[part], axis=0)
                expected[part] += np.einsum("np,npd->nd", past[part], own)
        return Prediction(rows, expected, missing)

    def hide(self, rows: FloatArray, hidden: BoolArray) -> FloatArray:
        return np.where(hidden, np.nan, rows)

    def arrays(self) -> Arrays:
        return {"coefficients": self.coefficients, "intercept": self.intercept}

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_features: int) -> Self:
        predictor = cls(arrays["coefficients"], arrays["intercept"])
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
        return predictor


PREDICTORS: dict[str, type[Predictor]] = {
    "none": NoPredictor,
    "last": LastPredictor,
    "ewma": EwmaPredictor,
    "level": LevelPredictor,
    "level_and_range": LevelAndRangePredictor,
    "autoregressive": AutoregressivePredictor,
    "regression": RegressionPredictor,
    "seasonal": SeasonalPredictor,
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
