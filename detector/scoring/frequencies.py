"""How often discrete values come: causal averages of shares and counts, and how improbable these are.

One failed request says nothing where one in a hundred fails; five of twenty do, and none of the five is
improbable by itself. So every text that is common enough, all others together, a flag, and a count are
columns. Each has a moving average, as control charts have, and its surprise is a likelihood ratio: by how
much likelier so many independent records are if the share is what it was of late than if it is the usual
one. Chance moves any column a little, an incident one of them a lot, so the most surprising one speaks. How
far normal traffic that comes in bursts moves them is seen when the surprise is calibrated.

References:
    Roberts (1959), Control chart tests based on geometric moving averages.
    Wilks (1938), The large-sample distribution of the likelihood ratio for testing composite hypotheses.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from scipy.special import gammaincinv

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.arrays import take
from detector.models.contract import Arrays
from detector.models.moving_mean import moving_mean
from detector.models.scaling import of_rows
from detector.scoring.drift import FARTHEST, Drift

ANY_OTHER = -1
"""In the place of a category: all that have no column of their own, those never seen among them."""
COUNT = -2
"""In the place of a category: the value itself."""
SET = 1
"""The category of a flag that is set."""

_SMALLEST = float(np.finfo(np.float64).tiny)
# What never came comes once: that is no frequency, and for others to hear. So no share or mean is surer.
_LEAST_USUAL = 0.001
# So much says nothing. Columns that never move would make a marvel of any nat, calibrated on themselves.
_NOTHING_NATS = 0.5


def independent_records(weight: float) -> float:
    """Return of how many records the mean varies as much as a moving average, with so much for the newest."""
    return (2.0 - weight) / weight


class Strayed(NamedTuple):
    """The most surprising column of each feature, shape (N, D) each; NaN for features without columns."""

    nats: FloatArray
    """Beyond the median of so many independent columns, so features with many compare with those of one."""
    average: FloatArray
    usual: FloatArray
    category: FloatArray
    """As in ``Frequencies``."""


@dataclass(frozen=True, slots=True)
class Frequencies:
    """How often values come, of M models: one per entity of the training data, and the pooled one last."""

    feature: IntArray
    """Of each column, shape (C,), rising."""
    category: IntArray
    """Of each column, shape (C,): an index into a vocabulary, ``SET``, ``ANY_OTHER`` or ``COUNT``."""
    usual: FloatArray
    """Share of the records, in (0, 1), or mean of the counts, positive, shape (M, C)."""
    dispersion: FloatArray
    """How much more averages surprise than those of independent records whose frequencies are known, shape
    (M, C), at least 1: values come in bursts, counts scatter more, and a new entity is like others or not."""

    _compared: FloatArray = field(init=False, repr=False)
    """``usual``, but never surer than it can be, and its logarithms."""
    _log_compared: FloatArray = field(init=False, repr=False)
    _log_others: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        counts = self.category == COUNT
        compared = np.clip(self.usual, _LEAST_USUAL, np.where(counts, np.inf, 1.0 - _LEAST_USUAL))
        object.__setattr__(self, "_compared", compared)
        object.__setattr__(self, "_log_compared", np.log(compared))
        object.__setattr__(self, "_log_others", np.log1p(-np.where(counts, 0.5, compared)))

    def scan(
        self,
        before: FloatArray,
        z: FloatArray,
        model: IntArray,
        weight: float,
        counted: BoolArray,
        lengths: IntArray,
    ) -> Drift:
        """Average records; the averages are shares and means, and the surprise is that of one column.

        Args:
            before: Averages before each run, shape (E, C).
            z: Standardised records, shape (N, D), entity after entity, each in time order: of texts indices;
                NaN is missing, and moves nothing.
            model: Of each record, shape (N,).
            weight: Of the newest record, in (0, 1).
            counted: Shape (N,), records that count; at others the averages stay as they are.
            lengths: Records of each entity, shape (E,), each >= 1.
        """
        value = self.values(z)
        for c in np.flatnonzero(self.category == COUNT).tolist():
            usual = self.usual[:, c].take(model)
            # What is farther out is a leap, and not to be remembered for long.
            most = usual + FARTHEST * np.sqrt(self.dispersion[:, c].take(model) * usual)
            value[:, c] = np.minimum(value[:, c], np.maximum(most, 1.0))
        present = counted[:, None] & ~np.isnan(value)
        value[~present] = 0.0
        step = np.where(present, weight, 0.0)
        mean, after = moving_mean(before, value, step, lengths)
        average = mean + (value - mean) * step
        # A record does not speak of what it lacks: that average stays as it is, however long.
        nats = np.where(present, self.nats(average, model, weight), _NOTHING_NATS)
        return Drift(after, average, np.maximum(nats.max(axis=1), _NOTHING_NATS))

    def values(self, z: FloatArray) -> FloatArray:
        """Return what is averaged, shape (N, C): 1 where the value is the column's, else 0, and counts.

        A negative count is as missing as it is in training.
        """
        values = np.empty((len(z), self.feature.size))
        for j in np.unique(self.feature).tolist():
            columns, column = np.flatnonzero(self.feature == j), z[:, j, None]
            own = self.category[columns]
            found = column == own
            found[:, own == ANY_OTHER] = ~found.any(axis=1, keepdims=True)
            counts = np.where(column < 0, np.nan, column)
            values[:, columns] = np.where(np.isnan(column), np.nan, np.where(own == COUNT, counts, found))
        return values

    def nats(self, average: FloatArray, model: IntArray, weight: float) -> FloatArray:
        """Return how surprising averages are, column by column, shape (N, C); arguments as of ``scan``."""
        nats = _times_log_ratio(average, of_rows(self._log_compared, model))
        others = _times_log_ratio(1.0 - average, of_rows(self._log_others, model))
        for c in np.flatnonzero(self.category == COUNT).tolist():
            others[:, c] = self._compared[:, c].take(model) - average[:, c]
        nats += others
        nats *= independent_records(weight)
        nats /= of_rows(self.dispersion, model)
        return nats

    def strayed(self, average: FloatArray, model: IntArray, weight: float, missing: BoolArray) -> Strayed:
        """Return the most surprising column of each feature of a record; other arguments as of ``scan``.

        Args:
            missing: Shape (N, D), features that the record lacks.
        """
        nats, usual = self.nats(average, model, weight), self.usual[model]
        strayed = Strayed(*np.full((4, *missing.shape), np.nan))
        row = np.arange(len(nats))
        for j in np.unique(self.feature).tolist():
            columns = np.flatnonzero(self.feature == j)
            column = columns[nats[:, columns].argmax(axis=1)]
            chance = gammaincinv(0.5, 0.5 ** (1.0 / columns.size))
            strayed.nats[:, j], strayed.average[:, j] = nats[row, column] - chance, average[row, column]
            strayed.usual[:, j], strayed.category[:, j] = usual[row, column], self.category[column]
        strayed.nats[missing] = np.nan
        return strayed

    def arrays(self) -> Arrays:
        """Return everything as arrays, ready for safetensors."""
        return {
            "feature": self.feature.astype(np.float64),
            "category": self.category.astype(np.float64),
            "usual": self.usual,
            "dispersion": self.dispersion,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Rebuild from ``arrays()``.

        Raises:
            ValueError: An array is absent, or they do not fit one another.
        """
        feature = take(arrays, "feature", (None,))
        category = take(arrays, "category", feature.shape)
        usual = take(arrays, "usual", (None, len(feature)))
        dispersion = take(arrays, "dispersion", usual.shape)
        shares = usual[:, category != COUNT]
        if not ((usual > 0).all() and (shares < 1).all() and (dispersion >= 1).all()):
            raise ValueError(
                "usual shares must be in (0, 1), counts positive and their dispersion at least 1"
            )
        return cls(feature.astype(np.int64), category.astype(np.int64), usual, dispersion)


def _times_log_ratio(x: FloatArray, log_y: FloatArray) -> FloatArray:
    """Return x log(x / y), 0 where x is, shape (N, C); scipy's takes four times as long."""
    result = np.log(np.maximum(x, _SMALLEST))
    result -= log_y
    result *= x
    return result
