"""Windows of event time in which nothing fires and nothing is learnt: from a calendar, and announced ones.

Which records lie inside is found for a batch at once. Names are looked at only while some window of the
batch's time concerns the detector, and then once for each entity in the batch.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.alerting.entity_patterns import EntityPatterns
from detector.batch import Batch, BoolArray, FloatArray, IntArray, OperatorRule
from detector.models.sequences import starts_of

Kind = Literal["maintenance", "deploy"]
_RULE = {"maintenance": OperatorRule.MAINTENANCE, "deploy": OperatorRule.DEPLOY}
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Selector:
    """Whom a window concerns."""

    entities: EntityPatterns | None = None
    """None: all."""
    detectors: frozenset[str] | None = None
    """None: all."""

    def has(self, detector: str) -> bool:
        """Return whether it concerns some entity under a detector."""
        return self.detectors is None or detector in self.detectors


@dataclass(frozen=True, slots=True)
class Window:
    """From one instant until another, seconds since 1970 UTC, the end not included."""

    selector: Selector
    from_s: float
    until_s: float
    kind: Kind = "maintenance"


@dataclass(frozen=True, slots=True)
class Recurring:
    """The same time of some days of every week, in a time zone.

    Where a local time occurs twice, or not at all, because clocks are put back or forward, the window is the
    longer one.
    """

    selector: Selector
    days: frozenset[int]
    """Monday is 0. The day on which it begins."""
    from_minute: int
    """Of the local day."""
    until_minute: int
    """Up to 1440; not above ``from_minute``: of the day after."""
    zone: tzinfo
    kind: Kind = "maintenance"

    def near(self, utc_day: int) -> Iterator[Window]:
        """Return all windows with a part in a day of UTC, counted from 1970, and perhaps some others."""
        for shift in (-2, -1, 0, 1):
            day = date(1970, 1, 1) + timedelta(days=utc_day + shift)
            if day.weekday() in self.days:
                yield _occurrence(self, day)


@lru_cache(maxsize=4096)
def _occurrence(recurring: Recurring, day: date) -> Window:
    """Return the window that begins on a local day."""
    overnight = recurring.until_minute <= recurring.from_minute
    from_s, _ = local_instants(day, recurring.from_minute, recurring.zone)
    end_day = day + timedelta(days=1) if overnight else day
    _, until_s = local_instants(end_day, recurring.until_minute, recurring.zone)
    return Window(recurring.selector, from_s, until_s, recurring.kind)


def local_instants(day: date, minute: int, zone: tzinfo) -> tuple[float, float]:
    """Return the earliest and the latest instant that a local time may mean, seconds since 1970 UTC."""
    local = datetime.combine(day, time()) + timedelta(minutes=minute)
    both = [local.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1)]
    return min(both), max(both)


class ExcusedUntil(Protocol):
    """``Maintenance.excused_until`` of certain detectors."""

    def __call__(
        self, entities: Sequence[str], time: FloatArray, entity: IntArray | None = None, /
    ) -> FloatArray: ...


class Maintenance:
    """Every window that is known, asked once per batch and detector."""

    def __init__(
        self,
        windows: Sequence[Window] = (),
        recurring: Sequence[Recurring] = (),
        announced: Callable[[], Sequence[Window]] = tuple,
    ) -> None:
        """Args:
        windows: Of the calendar, which occur once.
        recurring: Of the calendar, which occur every week.
        announced: Returns the others that are known now; the same object as long as they are the same.
        """
        self._fixed = _Overlaps(windows)
        self._recurring = tuple(recurring)
        self._announced = announced
        self._known: Sequence[Window] = ()
        self._overlaps = _Overlaps(())

    def inside(
        self, detector: str, batch: Batch, order: IntArray, lengths: IntArray
    ) -> NDArray[np.int8] | None:
        """Return of each record the kind of its window, values of ``OperatorRule``, shape (N,).

        Args:
            detector: Who asks.
            batch: N records.
            order: Shape (N,), rows entity after entity.
            lengths: Records of each entity, shape (E,), each >= 1.

        Returns:
            None where no record is inside a window.
        """
        first, last = float(batch.time.min()), float(batch.time.max())
        windows = [w for w in self._overlapping(first, last, batch.time) if w.selector.has(detector)]
        if not windows:
            return None
        names = [batch.entity[row] for row in order[starts_of(lengths)].tolist()]
        entity, time = np.repeat(np.arange(len(names)), lengths), batch.time[order]
        kind = np.zeros(len(batch), dtype=np.int8)
        for window in windows:
            rows = order[_inside(window, names, entity, time)]
            kind[rows] = np.maximum(kind[rows], np.int8(_RULE[window.kind]))
        return kind if kind.any() else None

    def between(self, from_s: float, until_s: float) -> list[Window]:
        """Return the windows that have a part in [from_s, until_s], by their beginnings."""
        days = np.append(np.arange(from_s, until_s, _DAY_S), until_s)
        return sorted(self._overlapping(from_s, until_s, days), key=lambda window: window.from_s)

    def excused_until(
        self,
        detectors: Collection[str],
        entities: Sequence[str],
        time: FloatArray,
        entity: IntArray | None = None,
    ) -> FloatArray:
        """Return the end of the window that each of N moments is in, shape (N,); -inf where it is in none.

        Args:
            detectors: Those that read what the entities send; a window of one of them suffices.
            entities: Length E.
            time: When, shape (N,).
            entity: Whose moment each is, shape (N,), an index of ``entities``; None: one of each, in order.
        """
        until = np.full(len(time), -np.inf)
        if until.size:
            whose = np.arange(len(entities)) if entity is None else entity
            for window in self._overlapping(float(time.min()), float(time.max()), time):
                if any(map(window.selector.has, detectors)):
                    inside = _inside(window, entities, whose, time)
                    until[inside] = np.maximum(until[inside], window.until_s)
        return until

    def _overlapping(self, first: float, last: float, time: FloatArray) -> Iterable[Window]:
        known = self._announced()
        if known is not self._known:
            self._known, self._overlaps = known, _Overlaps(known)
        yield from self._fixed.between(first, last)
        yield from self._overlaps.between(first, last)
        if self._recurring:
            days = {int(first // _DAY_S), int(last // _DAY_S)}
            if len(days) > 1:
                # A single record of long ago must not make a calendar of all the years since.
                days = set(np.unique(time // _DAY_S).astype(np.int64).tolist())
            near = (window for own in self._recurring for day in sorted(days) for window in own.near(day))
            yield from (w for w in dict.fromkeys(near) if w.from_s <= last and w.until_s > first)


def _inside(window: Window, names: Sequence[str], entity: IntArray, time: FloatArray) -> BoolArray:
    """Return which of N moments of some entities are in a window; ``entity`` (N,) indexes their names."""
    inside: BoolArray = (time >= window.from_s) & (time < window.until_s)
    patterns = window.selector.entities
    if patterns is not None and inside.any():
        inside &= np.fromiter(map(patterns.matches, names), bool, len(names))[entity]
    return inside


class _Overlaps:
    """Windows, asked for those that have a part in a span of time."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = windows
        self._from_s = np.array([window.from_s for window in windows])
        self._until_s = np.array([window.until_s for window in windows])

    def between(self, first: float, last: float) -> list[Window]:
        if not self._windows:
            return []
        found = np.flatnonzero((self._from_s <= last) & (self._until_s > first))
        return [self._windows[i] for i in found.tolist()]
