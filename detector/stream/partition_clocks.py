"""What time it is on the partitions of one input: each by its own records, or by the others' at its end."""

from collections.abc import Mapping

import numpy as np

from detector.batch import Batch, FloatArray, IntArray, Source
from detector.stream.stream_clock import StreamClock

CAUGHT_UP_S = 5.0
"""How long a partition was read to its end before others tell its time: lags are known a little late."""


class PartitionClocks:
    """A ``StreamClock`` for every partition, by a number that stays the partition's."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self.of: list[StreamClock] = []
        """By number, as ``sources`` is."""
        self._numbers: dict[Source, int] = {}
        self._caught_up_since: dict[Source, float] = {}
        self._newest_told: list[tuple[float, float]] = []
        """When lags were told, and the newest of the clocks then."""

    def number(self, source: Source) -> int:
        """Return the partition's number, a new one where it has none."""
        number = self._numbers.setdefault(source, len(self.of))
        if number == len(self.of):
            self.of.append(StreamClock())
            self.sources.append(source)
        return number

    def now_s(self) -> FloatArray:
        """Return what the clocks show, by number; -inf before the first record."""
        return np.array([clock.now_s for clock in self.of])

    def resumed_s(self) -> FloatArray:
        """Return when each stream last went on after a hole in it, by number."""
        return np.array([clock.resumed_s for clock in self.of])

    def resume(self) -> None:
        """Take whatever time comes next, on any partition, for the end of a hole."""
        for clock in self.of:
            clock.resume()

    def advance(
        self, batch: Batch, slots: IntArray, time: FloatArray, longest_hole_s: float
    ) -> tuple[FloatArray, FloatArray]:
        """Return what each record's clock showed after it, and when its stream resumed, shape (N,) each.

        Args:
            batch: N records, of partitions that have numbers.
            slots: Of their entities, shape (N,).
            time: Event times, shape (N,), none ahead of the wall clock.
            longest_hole_s: As for ``StreamClock.advance``.
        """
        shown, resumed = np.empty(len(batch)), np.empty(len(batch))
        for index, source in enumerate(batch.sources):
            rows = np.flatnonzero(batch.source == index)
            if rows.size:
                clock = self.of[self._numbers[source]]
                shown[rows] = clock.advance(slots[rows], time[rows], longest_hole_s)
                resumed[rows] = clock.resumed_s
        return shown, resumed

    def lags(self, lag: Mapping[Source, int], monotonic_s: float, longest_hole_s: float) -> None:
        """Take the records that wait on each partition: those where none do for long follow the newest clock.

        Args:
            lag: Of every partition held.
            monotonic_s: When it was found.
            longest_hole_s: As for ``StreamClock.follow``.
        """
        self._caught_up_since = {
            source: self._caught_up_since.get(source, monotonic_s)
            for source, records in lag.items()
            if records == 0
        }
        if not self.of:
            return
        told = self._newest_told
        told.append((monotonic_s, max(clock.now_s for clock in self.of)))
        while len(told) > 1 and told[1][0] <= monotonic_s - CAUGHT_UP_S:
            del told[0]
        told_s, newest_s = told[0]
        if told_s > monotonic_s - CAUGHT_UP_S:
            return
        for source, clock in zip(self.sources, self.of, strict=True):
            if self._caught_up_since.get(source, np.inf) <= told_s and np.isfinite(clock.now_s):
                clock.follow(newest_s, longest_hole_s)

    def caught_up_since_s(self) -> float:
        """Return since when every partition that has entities is read to its end; inf where one is not."""
        pairs = zip(self.sources, self.of, strict=True)
        held = [source for source, clock in pairs if clock.entities]
        return max((self._caught_up_since.get(source, np.inf) for source in held), default=np.inf)

    def forget(self, source: Source) -> None:
        """Start again with a partition: somebody else may have read it."""
        self._caught_up_since.pop(source, None)
        self._newest_told = []
        number = self._numbers.get(source)
        if number is not None:
            self.of[number] = StreamClock()
