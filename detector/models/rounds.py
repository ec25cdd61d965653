"""Records of many entities reordered into rounds: every entity's first record, every entity's second, ..."""

from dataclasses import dataclass

import numpy as np

from detector.batch import IntArray
from detector.models.sequences import starts_of


@dataclass(frozen=True, slots=True)
class Rounds:
    """N records of E entities; those with the most records come first, so the active ones are leading."""

    sizes: list[int]
    """Records per round, falling."""
    starts: IntArray
    """Shape (E,), index of each entity's first record, in the original order."""
    lengths: IntArray
    """Shape (E,), records of each entity."""
    order: IntArray | None = None
    """Shape (N,), original index of each record in round order; None where the orders are the same."""
    entities: IntArray | None = None
    """Shape (E,), entities by falling number of records; None where the order is the original one."""

    @property
    def last(self) -> IntArray:
        """Shape (E,), index of each entity's last record, in the original order."""
        return self.starts + self.lengths - 1


def one_round(n: int) -> Rounds:
    """Return the rounds of one record of each of n entities."""
    return Rounds(sizes=[n] if n else [], starts=np.arange(n), lengths=np.ones(n, dtype=np.int64))


def rounds(lengths: IntArray) -> Rounds:
    """Return the rounds of records that lie entity after entity, shape (E,) records of each."""
    starts = starts_of(lengths)
    if len(lengths) <= 1:
        return Rounds(sizes=[1] * int(lengths.sum()), starts=starts, lengths=lengths)
    entities = np.argsort(-lengths, kind="stable")
    rank = np.empty_like(entities)
    rank[entities] = np.arange(len(entities))
    round_of = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
    order = np.argsort(round_of * len(lengths) + np.repeat(rank, lengths), kind="stable")
    return Rounds(np.bincount(round_of).tolist(), starts, lengths, order, entities)
