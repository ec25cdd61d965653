"""The next record is expected at the entity's recent level, as far from it as values recently lay."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.blocks import blocks_of, teaching_weight
from detector.models.contract import Arrays, Prediction
from detector.models.sequences import lagged, starts_of

BLOCK = 64
"""Records of an entity after which its level is known anew."""
HALF_LIFE_RECORDS = 60.0
_FARTHEST_TAUGHT = 4.0
"""Spreads; a value farther out teaches no more than one so far out ..."""
_SUSPICIOUS, _USUAL = 6.0, 3.0
"""... and beyond so many spreads and training standard deviations it teaches nothing at all, ..."""
_RELEASE_RECORDS = 36
_RELEASE_S = 6 * 3600.0
"""... unless all have been so far out for so many records and seconds: then this is the new normal."""
_NARROWEST = 0.05
"""Of the training standard deviation."""
_PARTS = 8


@dataclass(frozen=True, slots=True)
class LevelPredictor:
    """Expects a weighted mean of the entity's past, and measures what is left in its weighted spread.

    Both forget half in 60 records, and are learnt faster while an entity is young. They are known anew after
    every 64 records of an entity, so a batch of any size sees the same. An entity never seen has the training
    mean and standard deviation. A missing value teaches nothing, nor do values far from recent ones and
    those of training, unless they stay.
    """

    name: ClassVar[str] = "level"
    each_by_itself: ClassVar[bool] = True
    n_features: int

    @property
    def warmup_records(self) -> int:
        return 0

    @property
    def state_size(self) -> int:
        return _PARTS * self.n_features + 2

    def initial_state(self, n: int) -> FloatArray:
        state = _State(np.zeros((n, self.state_size)), self.n_features)
        state.variance[:], state.near_time[:], state.time[:] = 1.0, -np.inf, np.nan
        return state.rows

    def scan(
        self, rows: FloatArray, x: FloatArray, time: FloatArray, lengths: IntArray, model: IntArray
    ) -> Prediction:
        rows = rows.copy()
        seen, newest = rows[:, -2].astype(np.int64), rows[:, -1]
        weight = teaching_weight(time - lagged(time, newest, starts_of(lengths)))
        expected, spread = np.empty_like(x), np.empty_like(x)
        for block in blocks_of(seen, lengths, BLOCK):
            state = _State(rows[block.runs], self.n_features)
            expected[block.rows] = state.location.repeat(block.lengths, axis=0)
            spread[block.rows] = np.sqrt(state.variance).repeat(block.lengths, axis=0)
            state.remember(x[block.rows], time[block.rows], weight[block.rows], block.lengths)
            state.learn(block.completes)
            rows[block.runs] = state.rows
        rows[:, -1] = time[starts_of(lengths) + lengths - 1]
        return Prediction(rows, expected, np.zeros((len(x), 0), dtype=bool), spread)

    def hide(self, rows: FloatArray, hidden: BoolArray) -> FloatArray:
        return rows

    def arrays(self) -> Arrays:
        return {}

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_features: int) -> Self:
        return cls(n_features)


class LevelAndRangePredictor(LevelPredictor):
    """The same, for a density that counts besides how far a value lies from where it was in training.

    So a value is improbable for leaving its level, for a level out of the range, and most of all for both.
    """

    __slots__ = ()
    name: ClassVar[str] = "level_and_range"


class _State:
    """What is remembered of E entities, in the order of the columns: (E, D) each, but for ``seen``."""

    def __init__(self, rows: FloatArray, d: int) -> None:
        self.rows = rows.copy()
        parts = [self.rows[:, i * d : (i + 1) * d] for i in range(_PARTS)]
        self.location, self.variance, self.known_from = parts[:3]
        """Of values, and the weight of the values that they rest on; those of long ago count, too."""
        self.pending, self.pending_sum, self.pending_squares = parts[3:6]
        """Weight of the values since the last block, and sums of their distances from the location."""
        self.far_records, self.near_time = parts[6:]
        """Records since the last value that was not suspicious, and its time."""
        self.seen, self.time = self.rows[:, _PARTS * d], self.rows[:, _PARTS * d + 1]
        """Records since the last block, and the time of the newest, shape (E,)."""

    def remember(self, x: FloatArray, time: FloatArray, weight: FloatArray, lengths: IntArray) -> None:
        """Take in the values of one block, shape (n, D), with the weights of their rows (n,)."""
        run = np.repeat(np.arange(len(lengths)), lengths)
        starts = starts_of(lengths)
        scale = np.sqrt(self.variance)[run]
        distance = x - self.location[run]
        # After a long calm hardly anything is near what was recent, and it would stay so.
        near = (np.abs(distance) <= _SUSPICIOUS * scale) | (np.abs(x) <= _USUAL)
        # The row of the last value that was near; before the block, where there was none in it yet.
        row = np.arange(len(x))[:, None]
        last = np.maximum.accumulate(np.where(near, row, -1), axis=0)
        first = starts[run][:, None]
        inside = last >= first
        since = np.where(inside, row - last, row - first + 1 + self.far_records[run])
        near_time = np.where(inside, time[np.maximum(last, 0)], self.near_time[run])
        released = (since > _RELEASE_RECORDS) & (time[:, None] - near_time > _RELEASE_S)
        taught = np.where(near | (released & ~np.isnan(x)), weight[:, None], 0.0)
        farthest = _FARTHEST_TAUGHT * scale
        distance = np.where(taught > 0, np.clip(distance, -farthest, farthest), 0.0)
        # One row after the other, so that the sums are the same wherever batches begin.
        np.add.at(self.pending, run, taught)
        np.add.at(self.pending_sum, run, taught * distance)
        np.add.at(self.pending_squares, run, taught * distance**2)
        ends = starts + lengths - 1
        self.far_records[:], self.near_time[:] = since[ends], near_time[ends]
        self.seen += lengths

    def learn(self, completes: BoolArray) -> None:
        """Move location and variance of the runs whose block is complete."""
        taught = (self.pending > 0) & completes[:, None]
        n = np.where(taught, self.pending, 1.0)
        forgotten = 1.0 - 2.0 ** (-n / HALF_LIFE_RECORDS)
        rate = np.where(taught, np.maximum(forgotten, n / (self.known_from + n)), 0.0)
        self.location += rate * self.pending_sum / n
        moved = self.variance + rate * (self.pending_squares / n - self.variance)
        self.variance[:] = np.maximum(moved, _NARROWEST**2)
        self.known_from += np.where(taught, n, 0.0)
        for part in (self.pending, self.pending_sum, self.pending_squares, self.seen):
            part[completes] = 0.0
