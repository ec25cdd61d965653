"""When an entity that sends no more is gone for good: then its memory and its series are freed.

By event time alone, on the clock of the entity's partition, so that the wall clock, a stopped consumer or a
backlog frees nobody, nor does a clock of its own that is far behind. Whether an entity that comes back begins
anew is decided by its own gap, not by the moment at which its memory was freed; only gaps inside one poll are
not looked at.
"""

import numpy as np

from detector.batch import Batch, FloatArray, IntArray, Source

_LOOKS = 64
"""Within the time after which entities are forgotten."""


class Expiry:
    """The newest event time of every slot of one input, and the partition's when it was heard of."""

    def __init__(self, forget_after_s: float) -> None:
        """Set the silence after which an entity is gone, seconds."""
        self._forget_after_s = forget_after_s
        self._newest_s: FloatArray = np.zeros(0)
        self._heard_s: FloatArray = np.zeros(0)
        self._clocks: dict[Source, float] = {}
        self._look_s = -np.inf

    def returning(self, batch: Batch, slots: IntArray) -> IntArray:
        """Return the slots of entities that were gone, and send again; call before ``seen``.

        Args:
            batch: N records.
            slots: Of their entities, shape (N,).
        """
        self._grow_to(int(slots.max()) + 1)
        far = batch.time > self._newest_s[slots] + self._forget_after_s
        if not far.any():
            return np.zeros(0, dtype=np.int64)
        back, first = np.unique(slots, return_index=True)
        known = np.isfinite(self._newest_s[back])
        return back[far[first] & known]

    def seen(self, batch: Batch, slots: IntArray, now_s: float) -> bool:
        """Take note of who sent; return whether it is time to look for those who are gone.

        Args:
            batch: N records.
            slots: Of their entities, shape (N,).
            now_s: Wall clock, which no record is ahead of here.
        """
        time = np.minimum(batch.time, now_s)
        # Of an entity whose clock went back nothing is scored: it is gone, and begins anew.
        in_order = time >= self._newest_s[slots]
        np.maximum.at(self._newest_s, slots, time)
        clocks = np.array([self._clocks.get(source, -np.inf) for source in batch.sources])
        np.maximum.at(clocks, batch.source, time)
        self._clocks.update(zip(batch.sources, clocks.tolist(), strict=True))
        self._heard_s[slots[in_order]] = clocks[batch.source[in_order]]
        newest_s = float(time.max())
        if newest_s < self._look_s:
            return False
        self._look_s = newest_s + self._forget_after_s / _LOOKS
        return True

    def gone(self, slots: IntArray, sources: IntArray) -> IntArray:
        """Return which of the slots belong to entities that are gone.

        Args:
            slots: All in use, shape (E,).
            sources: The number of the partition of each, shape (E,).
        """
        if slots.size == 0:
            return slots
        clocks = np.full(int(sources.max()) + 1, -np.inf)
        heard_s = self._heard_s[slots]
        np.maximum.at(clocks, sources, heard_s)
        return slots[np.isfinite(heard_s) & (clocks[sources] > heard_s + self._forget_after_s)]

    def forget(self, slots: IntArray) -> None:
        """Start again with slots that may be given to others."""
        known = slots[slots < self._newest_s.size]
        self._newest_s[known] = self._heard_s[known] = -np.inf

    def forget_source(self, source: Source) -> None:
        """Start again with the clock of a partition: what comes there next may be of before."""
        self._clocks.pop(source, None)

    def forget_sources(self) -> None:
        """Do the same with all."""
        self._clocks.clear()

    def _grow_to(self, n_slots: int) -> None:
        size = self._newest_s.size
        if n_slots > size:
            more = np.full(max(n_slots, 2 * size, 1024) - size, -np.inf)
            self._newest_s = np.concatenate([self._newest_s, more])
            self._heard_s = np.concatenate([self._heard_s, more])
