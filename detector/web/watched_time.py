"""How much event time was watched, per detector: what a budget of false alarms is spent over."""

import numpy as np

from detector.batch import FloatArray, IntArray

LONGEST_GAP_INTERVALS = 3.0


class WatchedTime:
    """The newest event time of each slot of one detector."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        """Usual time between two records; a longer silence counts as three of them at most."""
        self._newest_s: FloatArray = np.zeros(0)
        # Per slot, used within one call: sorting a batch by slot would cost several times more.
        self._row: IntArray = np.zeros(0, dtype=np.int64)
        self._records: IntArray = np.zeros(0, dtype=np.int64)

    def add(self, slots: IntArray, time_s: FloatArray) -> float:
        """Return the seconds watched since each entity's previous record, summed over entities.

        Args:
            slots: Shape (N,), small integers.
            time_s: Event times, shape (N,), each slot's ascending.
        """
        if len(slots) == 0:
            return 0.0
        self._grow_to(int(slots.max()) + 1)
        unseen = np.flatnonzero(np.isneginf(self._newest_s[slots]))[::-1]
        # Of several rows of a slot the one assigned last stays: backwards, that is its first.
        self._newest_s[slots[unseen]] = time_s[unseen]
        self._row[slots] = np.arange(len(slots))
        one_per_slot = self._row[slots] == np.arange(len(slots))
        np.add.at(self._records, slots, 1)
        each = slots[one_per_slot]
        before = self._newest_s[each]
        np.maximum.at(self._newest_s, slots, time_s)
        longest_gap_s = LONGEST_GAP_INTERVALS * self.interval_s
        watched = np.minimum(self._newest_s[each] - before, longest_gap_s * self._records[each])
        self._records[each] = 0
        return float(watched.sum())

    def forget(self, slots: IntArray) -> None:
        """Start again with these slots."""
        self._newest_s[slots[slots < len(self._newest_s)]] = -np.inf

    def _grow_to(self, n_slots: int) -> None:
        if n_slots <= len(self._newest_s):
            return
        more = max(n_slots, 2 * len(self._newest_s)) - len(self._newest_s)
        self._newest_s = np.concatenate([self._newest_s, np.full(more, -np.inf)])
        self._row = np.concatenate([self._row, np.zeros(more, dtype=np.int64)])
        self._records = np.concatenate([self._records, np.zeros(more, dtype=np.int64)])
