"""The next record is expected at the exponentially weighted mean of its entity's past."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Arrays, Prediction
from detector.models.moving_mean import moving_mean
from detector.models.scaling import of_rows
from detector.models.sequences import lagged, starts_of

_BLOCK = 64
"""Records between two means that are kept."""


@dataclass(frozen=True, slots=True)
class EwmaPredictor:
    """Expects a mean that moves by ``weight`` of the way to every value; it starts at the first value.

    A missing value leaves the mean as it is, and the next record is compared with that as one whose past is
    missing: to hide a value is to take the mean of about a hundred records ago, as old as after a long
    absence. A feature never seen counts as the training mean.
    """

    name: ClassVar[str] = "ewma"
    each_by_itself: ClassVar[bool] = True
    weight: FloatArray
    """Shape (M,), in (0, 1]: large forgets fast."""
    n_features: int

    @property
    def warmup_records(self) -> int:
        return 1

    @property
    def state_size(self) -> int:
        return 4 * self.n_features + 1

    def initial_state(self, n: int) -> FloatArray:
        rows = np.zeros((n, self.state_size))
        rows[:, : self.n_features] = np.nan
        return rows

    def scan(
        self, rows: FloatArray, x: FloatArray, time: FloatArray, lengths: IntArray, model: IntArray
    ) -> Prediction:
        mean, lacked, kept, kept_before, open_records = self._parts(rows)
        known = ~np.isnan(mean)
        present = ~np.isnan(x)
        weight = np.broadcast_to(of_rows(self.weight, np.repeat(model, lengths))[:, None], x.shape)
        if known.all() and present.all():
            expected, mean = moving_mean(mean, x, weight, lengths)
            seen_before = np.ones(x.shape, dtype=bool)
        else:
            seen_before, seen = _seen(known, present, lengths)
            # An unknown mean is 0 and goes all the way to the first value; a missing value moves nothing.
            steps = np.where(present, np.where(seen_before, weight, 1.0), 0.0)
            start = np.where(known, mean, 0.0)
            expected, mean = moving_mean(start, np.where(present, x, 0.0), steps, lengths)
            mean = np.where(seen, mean, np.nan)
        starts = starts_of(lengths)
        past_missing = ~seen_before | lagged(~present, lacked > 0, starts)
        lacked = ~present[starts + lengths - 1]
        # The position of the last row of the newest whole block, negative if that ended before.
        open_after = (open_records[:, 0].astype(np.int64) + lengths) % _BLOCK
        newest = (lengths - 1 - open_after)[:, None]
        at_newest, at_one_before = (
            expected[starts + np.maximum(row, 0)] for row in (newest[:, 0], newest[:, 0] - _BLOCK)
        )
        kept_before = np.where(newest >= _BLOCK, at_one_before, np.where(newest >= 0, kept, kept_before))
        kept = np.where(newest >= 0, at_newest, kept)
        after = np.hstack([mean, lacked, kept, kept_before, open_after[:, None]])
        return Prediction(after, expected, past_missing)

    def hide(self, rows: FloatArray, hidden: BoolArray) -> FloatArray:
        mean, lacked, kept, kept_before, open_records = self._parts(rows)
        # A mean that lacked the value before anyway is already as old as it is then.
        older = np.where(hidden & (lacked == 0), kept_before, mean)
        return np.hstack([older, (lacked > 0) | hidden, kept, kept_before, open_records])

    def _parts(self, rows: FloatArray) -> list[FloatArray]:
        """Return what is remembered of E entities, shape (E, D) each, but for the last.

        The mean; 1 where the newest record lacked the value, else 0; the mean before the last record of the
        newest whole block, and of the block before, 0 where there is none; how many records the open block
        has, shape (E, 1).
        """
        return np.split(rows, self.n_features * np.arange(1, 5), axis=1)

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
