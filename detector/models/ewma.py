"""The next record is expected at the exponentially weighted mean of its entity's past."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Arrays, Prediction
from detector.models.moving_mean import moving_mean
from detector.models.scaling import of_rows
from detector.models.sequences import starts_of


@dataclass(frozen=True, slots=True)
class EwmaPredictor:
    """Expects a mean that moves by ``weight`` of the way to every value; it starts at the first value.

    A missing value leaves the mean as it is. A feature never seen counts as the training mean.
    """

    name: ClassVar[str] = "ewma"
    weight: FloatArray
    """Shape (M,), in (0, 1]: large forgets fast."""
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
        known = ~np.isnan(rows)
        present = ~np.isnan(x)
        weight = np.broadcast_to(of_rows(self.weight, np.repeat(model, lengths))[:, None], x.shape)
        if known.all() and present.all():
            expected, mean = moving_mean(rows, x, weight, lengths)
            return Prediction(mean, expected, np.zeros(x.shape, dtype=bool))
        seen_before, seen = _seen(known, present, lengths)
        # An unknown mean is 0 and goes all the way to the first value; a missing value moves nothing.
        steps = np.where(present, np.where(seen_before, weight, 1.0), 0.0)
        expected, mean = moving_mean(np.where(known, rows, 0.0), np.where(present, x, 0.0), steps, lengths)
        return Prediction(np.where(seen, mean, np.nan), expected, ~seen_before)

    def hide(self, rows: FloatArray, hidden: BoolArray) -> FloatArray:
        return np.where(hidden, np.nan, rows)

    def arrays(self) -> Arrays:
        return {"weight": self.weight}

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_features: int) -> Self:
        weight = arrays["weight"]
        if weight.ndim != 1 or not ((weight > 0) & (weight <= 1)).all():
            raise ValueError(f"weight {weight.shape} must be (M,), every one above 0 and at most 1")
        return cls(weight, n_features)


def _seen(known: BoolArray, present: BoolArray, lengths: IntArray) -> tuple[BoolArray, BoolArray]:
    """Return which means are known before each row, shape (N, D), and after each run, shape (E, D)."""
    starts = starts_of(lengths)
    before = np.zeros((len(present) + 1, present.shape[1]), dtype=np.int64)
    np.cumsum(present, axis=0, out=before[1:])
    within = before[:-1] - np.repeat(before[starts], lengths, axis=0)
    seen_before: BoolArray = (within > 0) | np.repeat(known, lengths, axis=0)
    seen: BoolArray = (before[starts + lengths] > before[starts]) | known
    return seen_before, seen
