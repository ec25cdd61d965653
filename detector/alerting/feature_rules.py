"""What matters of features to the operator: sides and sizes of deviations, ranges, and values that stay.

A suspicious record stays suspicious only if what makes it improbable matters. What makes it improbable is the
excess of its features' surprise over what is usual, in nats. Of it, features that deviate to a side and by a
size that matters must hold half, or so much that the record would be suspicious by their part alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from detector.alerting.stuck import StuckRules
from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Explanation
from detector.models.moving_mean import moving_mean
from detector.models.sequences import lagged, runs_of, starts_of

Direction = Literal["above", "below", "both"]

_SIGN = {"above": 1, "below": -1, "both": 0}
_SHARE = 0.5
# A value outside the support of a model is infinitely surprising; a share of infinity is none.
_MOST_NATS = 1e6


@dataclass(frozen=True, slots=True)
class FeatureRule:
    """What the operator says of one feature, in the units of alerts (of a counter its rate)."""

    direction: Direction = "both"
    """To which side of what was expected a deviation matters."""
    smallest_absolute: float = 0.0
    smallest_relative: float = 0.0
    """A deviation matters only if it is at least so large, and so large a part of what was expected."""
    low: float = -np.inf
    high: float = np.inf
    """A value below or above is an alert whatever the model says."""
    stuck_after_s: float = np.inf
    """So is one that has been exactly the same for so long."""

    @property
    def judges_deviations(self) -> bool:
        """Whether some deviation does not matter."""
        return self.direction != "both" or self.smallest_absolute > 0 or self.smallest_relative > 0

    @property
    def has_range(self) -> bool:
        """Whether there is a value that it takes for an alert."""
        return self.low > -np.inf or self.high < np.inf


@dataclass(frozen=True, slots=True)
class FeatureRules:
    """The rules of D features as arrays, shape (D,) each."""

    sign: NDArray[np.int8]
    """1 above, -1 below, 0 both."""
    smallest_absolute: FloatArray
    smallest_relative: FloatArray
    judged: BoolArray
    """Whether some deviation of the feature does not matter."""
    low: FloatArray
    high: FloatArray
    stuck: StuckRules | None
    """None where every value may stay."""

    @classmethod
    def of(cls, rules: Sequence[FeatureRule]) -> Self | None:
        """Return the rules of all features, in order; None where none says anything."""
        stuck = StuckRules.of([rule.stuck_after_s for rule in rules])
        if stuck is None and not any(rule.judges_deviations or rule.has_range for rule in rules):
            return None
        return cls(
            np.array([_SIGN[rule.direction] for rule in rules], dtype=np.int8),
            np.array([rule.smallest_absolute for rule in rules], dtype=np.float64),
            np.array([rule.smallest_relative for rule in rules], dtype=np.float64),
            np.array([rule.judges_deviations for rule in rules]),
            np.array([rule.low for rule in rules], dtype=np.float64),
            np.array([rule.high for rule in rules], dtype=np.float64),
            stuck,
        )

    @property
    def judges_deviations(self) -> bool:
        """Whether some deviation of some feature does not matter."""
        return bool(self.judged.any())

    @property
    def state_size(self) -> int:
        """Numbers to remember of an entity, see ``shares``."""
        return 2 if self.judges_deviations else 0

    def initial_state(self, n: int) -> FloatArray:
        """Return the state of entities never seen, shape (n, state_size)."""
        return np.full((n, self.state_size), np.nan)

    def out_of_range(self, values: FloatArray) -> BoolArray:
        """Return which values are outside their range, shape (..., D); a missing one is not."""
        return np.asarray((values < self.low) | (values > self.high))

    def matter(self, actual: FloatArray, expected: FloatArray) -> BoolArray:
        """Return which deviations matter, shape (n, D), of values in the units of alerts."""
        with np.errstate(invalid="ignore"):
            deviation = actual - expected
            size = np.abs(deviation)
            counts = (self.sign == 0) | (np.sign(deviation) == self.sign)
            counts &= (size >= self.smallest_absolute) & (size >= self.smallest_relative * np.abs(expected))
        return np.asarray(counts | ~self.judged)

    def range_left(self, j: int, actual: float) -> tuple[float | None, float | None] | None:
        """Return the range of feature j, None for an open end, where a value is outside; else None."""
        low, high = float(self.low[j]), float(self.high[j])
        if low <= actual <= high or np.isnan(actual):
            return None
        return None if np.isinf(low) else low, None if np.isinf(high) else high

    def excess_nats(self, explanation: Explanation, actual: FloatArray, expected: FloatArray) -> FloatArray:
        """Return the excess of surprise that matters, and all of it, nats, shape (n, 2).

        Args:
            explanation: Of n rows, in any units.
            actual: The rows in the units of alerts, shape (n, D).
            expected: Shape (n, D), in the same units.
        """
        return self.nats_that_matter(_excess(explanation), actual, expected)

    def nats_that_matter(self, over: FloatArray, actual: FloatArray, expected: FloatArray) -> FloatArray:
        """Return the part of surprise that matters, and all of it, nats, shape (n, 2).

        Args:
            over: Of each feature, beyond the usual, shape (n, D), at least 0.
            actual: Values, or averages of them, in the units of alerts, shape (n, D).
            expected: Shape (n, D), in the same units.
        """
        counted = np.where(self.matter(actual, expected), over, 0.0)
        total = np.zeros((len(over), 2))
        # Column by column, so that the order of a row's sum is the same in any batch.
        for j in range(over.shape[1]):
            total[:, 0] += counted[:, j]
            total[:, 1] += over[:, j]
        return total

    def shares(
        self,
        state: FloatArray,
        nats: FloatArray,
        weight: FloatArray,
        suspicious: BoolArray,
        lengths: IntArray,
    ) -> tuple[FloatArray, FloatArray]:
        """Return the state after, shape (E, 2), and which part of suspicious rows' surprise matters, (n,).

        Where surprise is an average over records, so are its parts: over the suspicious records in a row, of
        which the newest has the weight that it has in the average. The first of them counts whole.

        Args:
            state: Averages before, NaN after a record that was not suspicious, shape (E, 2).
            nats: Of the n suspicious rows the excess that matters and all of it, shape (n, 2).
            weight: Of each of them in the average that was heard, in (0, 1], shape (n,).
            suspicious: Shape (N,), scored rows, entity after entity, each in time order.
            lengths: Scored rows of each entity, shape (E,), each >= 1.
        """
        starts = starts_of(lengths)
        before = ~np.isnan(state[:, 0])
        rows = np.flatnonzero(suspicious)
        goes_on = lagged(suspicious, before, starts)[rows]
        entity = np.repeat(np.arange(len(lengths)), lengths)[rows]
        own = runs_of(entity)
        with_rows = entity[starts_of(own)]
        step = np.where(goes_on, weight, 1.0)[:, None].repeat(2, axis=1)
        mean, last = moving_mean(np.nan_to_num(state[with_rows]), nats, step, own)
        average = mean + (nats - mean) * step
        after = np.full_like(state, np.nan)
        after[with_rows] = last
        after[~suspicious[starts + lengths - 1]] = np.nan
        share = np.ones(len(rows))
        np.divide(average[:, 0], average[:, 1], out=share, where=average[:, 1] > 0)
        return after, share

    def stays(self, share: FloatArray, anomaly_score: FloatArray, too_likely: BoolArray) -> BoolArray:
        """Return which suspicious rows stay so, shape (n,).

        A row that is too likely deviates nowhere: it stays if any deviation of some feature matters.

        Args:
            share: Of the surprise, what matters.
            anomaly_score: At least 1.
            too_likely: Which side of surprise it is.
        """
        enough = share >= np.minimum(_SHARE, 1.0 / anomaly_score)
        return np.where(too_likely, not self.judged.all(), enough)


def _excess(explanation: Explanation) -> FloatArray:
    """Return how much more surprising every feature is than usual, nats, shape (n, D), at least 0.

    A missing feature surprises nobody.
    """
    return np.nan_to_num(np.clip(explanation.excess(), 0.0, _MOST_NATS))
