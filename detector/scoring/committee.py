"""One p-value of several: how loud normal traffic gets for a committee's members together.

What a member says is a p-value. The committee's is their harmonic mean, which follows the smallest one and is
smaller where others agree; how small it gets in normal traffic is counted on held-out rows in its turn. A
member with a smaller share is heard as much more rarely: it costs the others next to nothing, and tells of
what is plain to it alone.
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
    shares: tuple[float, ...] = ()
    """Of the false alarms that each member may cause, beside members with 1; empty: all alike."""

    @classmethod
    def fit(cls, p_value: FloatArray, *, learns: bool = False, shares: tuple[float, ...] = ()) -> Self:
        """Listen to held-out rows.

        Args:
            p_value: Of each member, shape (M, K).
            learns: Whether p-values of a member follow the traffic that it scores.
            shares: Of each member, in (0, 1], shape (K,); empty: all alike.
        """
        if learns or p_value.shape[1] == 1:
            return cls(None, shares)
        return cls(Tail.fit(-np.log(_harmonic_mean(p_value, shares))), shares)

    def judge(self, p_value: FloatArray) -> Judged:
        """Make one p-value of the members', shape (N, K)."""
        if p_value.shape[1] == 1:
            return Judged(p_value[:, 0], np.zeros(len(p_value), dtype=np.int64))
        member = self.heard(p_value).argmin(axis=1)
        mean = _harmonic_mean(p_value, self.shares)
        return Judged(mean if self.tail is None else self.tail.p_value(-np.log(mean)), member)

    def heard(self, p_value: FloatArray) -> FloatArray:
        """Return the members' p-values, shape (N, K), as rare as they are beside the others', at most 1."""
        return np.minimum(p_value / np.array(self.shares), 1.0) if self.shares else p_value

    def arrays(self) -> Arrays:
        """Return what the shares do not tell, ready for safetensors."""
        return {} if self.tail is None else self.tail.arrays()

    @classmethod
    def from_arrays(cls, arrays: Arrays, shares: tuple[float, ...] = ()) -> Self:
        """Rebuild from ``arrays()`` and the shares of the members.

        Raises:
            KeyError: An array is absent.
            ValueError: They do not describe a tail.
        """
        return cls(Tail.from_arrays(arrays) if arrays else None, shares)


def _harmonic_mean(p_value: FloatArray, shares: tuple[float, ...]) -> FloatArray:
    """Return the harmonic mean of each row, shape (N,), of p-values (N, K) above 0, weighted by shares."""
    shares = shares or (1.0,) * p_value.shape[1]
    mean_reciprocal = np.zeros(len(p_value))
    # One column after the other, so that the sums have the same bits in any batch.
    for column, share in zip(p_value.T, shares, strict=True):
        mean_reciprocal += 1.0 / (sum(shares) / share * column)
    return np.asarray(1.0 / mean_reciprocal)
