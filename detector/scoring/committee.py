"""One p-value of several: how loud normal traffic gets for a committee's members together.

What a member says is a p-value. The committee's is their harmonic mean, which follows the smallest one and is
smaller where others agree; how small it gets in normal traffic is counted on held-out rows in its turn.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.contract import Arrays
from detector.scoring.tail import Tail


class Judged(NamedTuple):
    """What a committee says of N rows."""

    p_value: FloatArray
    """Shape (N,), in (0, 1]; NaN where every member's is."""
    member: IntArray
    """Shape (N,), who was heard: the first of those with the smallest p-value."""


@dataclass(frozen=True, slots=True)
class Committee:
    """How often the members together are so loud."""

    tail: Tail | None
    """Of minus the logarithm of the harmonic mean, nats. None where one member is alone, or where members
    learn on: what held-out rows said of them will not hold. Then the mean stands for itself: small, it is as
    rare as it says, be the members independent or always of one mind (Wilson, PNAS 2019, The harmonic mean
    p-value for combining dependent tests)."""

    @classmethod
    def fit(cls, p_value: FloatArray, *, learns: bool = False) -> Self:
        """Listen to held-out rows.

        Args:
            p_value: Of each member, shape (M, K).
            learns: Whether p-values of a member follow the traffic that it scores.
        """
        if learns or p_value.shape[1] == 1:
            return cls(None)
        return cls(Tail.fit(-np.log(_harmonic_mean(p_value))))

    def judge(self, p_value: FloatArray) -> Judged:
        """Make one p-value of the members', shape (N, K)."""
        if p_value.shape[1] == 1:
            return Judged(p_value[:, 0], np.zeros(len(p_value), dtype=np.int64))
        member = p_value.argmin(axis=1)
        mean = _harmonic_mean(p_value)
        return Judged(mean if self.tail is None else self.tail.p_value(-np.log(mean)), member)

    def arrays(self) -> Arrays:
        """Return everything, ready for safetensors."""
        return {} if self.tail is None else self.tail.arrays()

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Rebuild from ``arrays()``.

        Raises:
            KeyError: An array is absent.
            ValueError: They do not describe a tail.
        """
        return cls(Tail.from_arrays(arrays) if arrays else None)


def _harmonic_mean(p_value: FloatArray) -> FloatArray:
    """Return the harmonic mean of each row, shape (N,), of p-values (N, K) above 0."""
    mean_reciprocal = np.zeros(len(p_value))
    # One column after the other, so that the sums have the same bits in any batch.
    for column in p_value.T:
        mean_reciprocal += 1.0 / (p_value.shape[1] * column)
    return np.asarray(1.0 / mean_reciprocal)
