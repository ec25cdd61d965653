"""One p-value of several: how loud normal traffic gets for any of a committee's members.

What a member says is a p-value. The committee listens to the smallest one, and how small that gets in normal
traffic is counted on held-out rows in its turn: so no rule of combination has to be believed.
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
    """How often the loudest member is so loud."""

    tail: Tail | None
    """Of the largest evidence of any member, minus the logarithm of its p-value, nats. None where one member
    is alone, or where members learn on: what held-out rows said of them will not hold. Then the smallest of K
    p-values counts K times, which is too careful where members agree, and never too bold."""

    @classmethod
    def fit(cls, p_value: FloatArray, *, learns: bool = False) -> Self:
        """Listen to held-out rows.

        Args:
            p_value: Of each member, shape (M, K).
            learns: Whether p-values of a member follow the traffic that it scores.
        """
        if learns or p_value.shape[1] == 1:
            return cls(None)
        return cls(Tail.fit(-np.log(p_value.min(axis=1))))

    def judge(self, p_value: FloatArray) -> Judged:
        """Make one p-value of the members', shape (N, K)."""
        if p_value.shape[1] == 1:
            return Judged(p_value[:, 0], np.zeros(len(p_value), dtype=np.int64))
        member = p_value.argmin(axis=1)
        smallest = p_value[np.arange(len(p_value)), member]
        if self.tail is None:
            return Judged(np.minimum(p_value.shape[1] * smallest, 1.0), member)
        return Judged(self.tail.p_value(-np.log(smallest)), member)

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
