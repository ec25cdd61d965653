"""What time it is on a partition: the newest event time of its records, whatever clocks its entities have.

One entity whose clock runs ahead must not make all others look silent, so where there are three entities or
more the clock shows a time only once two of them have reached it.
"""

import numpy as np

from detector.batch import FloatArray, IntArray

_ENOUGH = 3
"""Entities from which on one alone does not move the clock."""


class StreamClock:
    """The clock of one partition, seconds since 1970. It never goes back."""

    def __init__(self) -> None:
        self.now_s = -np.inf
        self.entities = 0
        """How many the partition has; kept up to date by the owner."""
        self.resumed_s = -np.inf
        """When the stream last went on after a hole in it: nobody was silent before that."""
        self._newest: list[tuple[float, int]] = []
        """The newest times of two different slots, newest first."""
        self._fresh = False

    def resume(self) -> None:
        """Take whatever time comes next for the end of a hole."""
        self._fresh = True

    def forget(self, slots: IntArray) -> None:
        """Forget entities of the partition; their slots may be given to others."""
        self.entities -= len(slots)
        self._newest = [(time, slot) for time, slot in self._newest if slot not in slots]

    def advance(self, slots: IntArray, time: FloatArray, longest_hole_s: float) -> FloatArray:
        """Read the time from records; return what the clock showed after each, shape (N,).

        Args:
            slots: Of N >= 1 records of the partition, in the order of their offsets.
            time: Event times, shape (N,), none ahead of the wall clock.
            longest_hole_s: If nothing at all has a time within so long a stretch, the stream was away, and
                not its entities.
        """
        before = self.now_s
        now = max(before, self._reached(slots, time))
        shown: FloatArray = np.minimum(np.maximum.accumulate(np.maximum(time, before)), now)
        self.now_s = now
        if self._fresh:
            self._fresh = False
            self.resumed_s = float(shown[0])
        elif now - before > longest_hole_s and np.isfinite(before):
            within = np.sort(time[(time > before) & (time < now)])
            edges = np.concatenate(([before], within, [now]))
            holes = np.flatnonzero(np.diff(edges) > longest_hole_s)
            if holes.size:
                self.resumed_s = float(edges[holes[-1] + 1])
        return shown

    def follow(self, time_s: float, longest_hole_s: float) -> None:
        """Show at least this time, which other partitions have reached while this one had nothing to read."""
        if time_s <= self.now_s:
            return
        if self._fresh or time_s - self.now_s > longest_hole_s:
            self._fresh = False
            self.resumed_s = time_s
        self.now_s = time_s

    def _reached(self, slots: IntArray, time: FloatArray) -> float:
        """Return the newest time that enough entities have reached."""
        first = int(np.argmax(time))
        found = [*self._newest, (float(time[first]), int(slots[first]))]
        others = slots != slots[first]
        if others.any():
            second = int(np.argmax(np.where(others, time, -np.inf)))
            found.append((float(time[second]), int(slots[second])))
        found.sort(reverse=True)
        self._newest = [found[0], *[other for other in found if other[1] != found[0][1]][:1]]
        return self._newest[-1 if self.entities >= _ENOUGH else 0][0]
