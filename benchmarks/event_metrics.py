"""What alarms are worth to the people they wake: events found, how late, and how many for nothing.

Alarms of M records become *runs*: alarms with at most ``MERGED_GAP`` records between them are one. An event
is found when a run touches it, and counts once; a run that touches no event is one false alarm. Nothing is
adjusted: a record counts as found only where it alarms itself.
"""

from dataclasses import dataclass

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray

MERGED_GAP = 10
"""Records without an alarm that do not end a run of alarms."""


@dataclass(frozen=True, slots=True)
class EventCounts:
    """What alarms did over the records of one series, or of several together."""

    events: int = 0
    found: int = 0
    false_alarms: int = 0
    days: float = 0.0
    """Event time of the records, or what stands for days."""

    @property
    def precision(self) -> float:
        """Return the share of events among what was reported; 0 where nothing was."""
        return self.found / max(self.found + self.false_alarms, 1)

    @property
    def recall(self) -> float:
        """Return the share of events that were found; NaN without events."""
        return self.found / self.events if self.events else float("nan")

    @property
    def f1(self) -> float:
        """Return the harmonic mean of precision and recall; NaN without events."""
        return (
            2 * self.found / (self.events + self.found + self.false_alarms) if self.events else float("nan")
        )

    @property
    def false_alarms_per_day(self) -> float:
        """Return false alarms per day, or what stands for one."""
        return self.false_alarms / self.days


def alarm_runs(alarm: BoolArray) -> IntArray:
    """Return first and last record of every run of alarms, small gaps included, shape (R, 2)."""
    at = np.flatnonzero(alarm)
    if at.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    breaks = np.flatnonzero(np.diff(at) > MERGED_GAP + 1)
    return np.column_stack([at[np.concatenate(([0], breaks + 1))], at[np.concatenate((breaks, [-1]))]])


def touches(spans: IntArray, others: IntArray) -> BoolArray:
    """Return which spans, shape (R, 2), share a record with any of the others, shape (E, 2)."""
    if len(others) == 0:
        return np.zeros(len(spans), dtype=bool)
    overlap = (spans[:, None, 0] <= others[None, :, 1]) & (spans[:, None, 1] >= others[None, :, 0])
    return np.asarray(overlap.any(axis=1))


def count_events(alarm: BoolArray, events: IntArray, days: float) -> EventCounts:
    """Compare alarms with events.

    Args:
        alarm: Shape (M,).
        events: First and last record of each, shape (E, 2).
        days: Event time that the M records cover.
    """
    reported = alarm_runs(alarm)
    return EventCounts(
        events=len(events),
        found=int(touches(events, reported).sum()),
        false_alarms=int((~touches(reported, events)).sum()),
        days=days,
    )


def delays(alarm: BoolArray, events: IntArray) -> list[int]:
    """Return, for each event in which a record alarms, how many of its records came before that one."""
    at = np.flatnonzero(alarm)
    first = np.searchsorted(at, events[:, 0])
    found = [int(at[i] - event[0]) for i, event in zip(first, events, strict=True) if i < at.size]
    length = [int(event[1] - event[0]) for i, event in zip(first, events, strict=True) if i < at.size]
    return [delay for delay, most in zip(found, length, strict=True) if delay <= most]


def false_alarms_in_calm(alarm: BoolArray, events: IntArray, days: FloatArray) -> tuple[int, float]:
    """Return how many runs touch no event, and the days outside events and runs that touch one.

    Args:
        alarm: Shape (M,).
        events: First and last record of each, shape (E, 2).
        days: Event time of each record, shape (M,).
    """
    reported = alarm_runs(alarm)
    true = touches(reported, events)
    calm = np.ones(len(alarm), dtype=bool)
    for first, last in np.vstack([events, reported[true]]):
        calm[first : last + 1] = False
    return int((~true).sum()), float(days[calm].sum())


def recall_at_best(anomaly: FloatArray, events: IntArray, false_alarms: int) -> float:
    """Return the recall of the lowest threshold before the first that makes more than so many false alarms.

    An oracle: the labels choose the threshold. A record alarms when its anomaly reaches it. The first,
    since far lower all alarms become one run, which finds every event and is never false.

    Args:
        anomaly: Shape (M,), high is anomalous; only the order counts.
        events: First and last record of each, shape (E, 2).
        false_alarms: How many are allowed.

    Returns:
        NaN without events.
    """
    if len(events) == 0:
        return float("nan")
    order = np.argsort(-anomaly, kind="stable")
    before, after = _neighbours_when_added(order)
    is_last_of_equals = np.append(anomaly[order][1:] != anomaly[order][:-1], True)
    growing = _GrowingRuns(len(anomaly), events)
    found = 0
    for row, previous, following, complete in zip(
        order.tolist(), before.tolist(), after.tolist(), is_last_of_equals.tolist(), strict=True
    ):
        growing.add(row, previous, following)
        if complete:
            if growing.false_runs > false_alarms:
                break
            found = growing.found
    return found / len(events)


def best_f1(anomaly: FloatArray, labels: BoolArray) -> float:
    """Return the largest F1 over records of any threshold: an oracle; NaN where no record is anomalous."""
    if not labels.any():
        return float("nan")
    order = np.argsort(-anomaly, kind="stable")
    true = np.cumsum(labels[order])
    f1 = 2 * true / (np.arange(1, len(order) + 1) + labels.sum())
    is_last_of_equals = np.append(anomaly[order][1:] != anomaly[order][:-1], True)
    return float(f1[is_last_of_equals].max())


def _neighbours_when_added(order: IntArray) -> tuple[IntArray, IntArray]:
    """Return, for rows added in ``order``, the nearest row before and after that is already there.

    -1 and M stand for none. Found backwards: taking rows out of a linked list leaves their neighbours.
    """
    n = len(order)
    # Row r is at r + 1, between the two ends.
    previous, following = list(range(-1, n + 1)), list(range(1, n + 3))
    before, after = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for i in range(n - 1, -1, -1):
        at = int(order[i]) + 1
        left, right = previous[at], following[at]
        before[i], after[i] = left - 1, right - 1
        following[left], previous[right] = right, left
    return before, after


class _GrowingRuns:
    """Runs of alarms while the threshold sinks: which are false, and which events are found."""

    def __init__(self, n: int, events: IntArray) -> None:
        self.false_runs = 0
        self.found = 0
        self._parent = list(range(n))
        self._is_true = [False] * n
        self._events = [(int(first), int(last)) for first, last in events]
        self._is_found = [False] * len(events)
        in_event = np.zeros(n + 1, dtype=np.int64)
        for first, last in events:
            in_event[first + 1 : last + 2] = 1
        self._rows_in_events = np.cumsum(in_event).tolist()

    def add(self, row: int, previous: int, following: int) -> None:
        """Let a row alarm; the others are the nearest that do."""
        joins_previous = previous >= 0 and row - previous <= MERGED_GAP + 1
        joins_following = following < len(self._parent) and following - row <= MERGED_GAP + 1
        if joins_previous and joins_following and self._root(previous) == self._root(following):
            return
        self.false_runs += 1
        self._cover(row, row)
        if joins_previous:
            self._join(previous, row)
            self._cover(previous, row)
        if joins_following:
            self._join(following, row)
            self._cover(row, following)

    def _cover(self, first: int, last: int) -> None:
        """The run that the rows belong to reaches from the one to the other."""
        if self._rows_in_events[last + 1] == self._rows_in_events[first]:
            return
        root = self._root(first)
        if not self._is_true[root]:
            self._is_true[root] = True
            self.false_runs -= 1
        for i, (start, end) in enumerate(self._events):
            if not self._is_found[i] and start <= last and end >= first:
                self._is_found[i] = True
                self.found += 1

    def _join(self, a: int, b: int) -> None:
        root_a, root_b = self._root(a), self._root(b)
        if not (self._is_true[root_a] and self._is_true[root_b]):
            self.false_runs -= 1
        self._parent[root_a] = root_b
        self._is_true[root_b] = self._is_true[root_a] or self._is_true[root_b]

    def _root(self, row: int) -> int:
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row
