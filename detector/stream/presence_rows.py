"""What is known of the entities of one input, one row per slot, and what is told of those that stopped."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from detector.alerting.absence import initial_gaps, usual_interval_s
from detector.alerting.absence_event import AbsenceEvent, absence_id, listed
from detector.batch import BoolArray, FloatArray, IntArray, Source

PRESENT, ABSENT, FIRST_INCIDENT = 0, 1, 2


@dataclass(slots=True)
class Rows:
    """Arrays over slots."""

    known: BoolArray
    missed: BoolArray
    """Whether anybody wants to know when it stops."""
    left: BoolArray
    """Whether its entity was found on another partition since: then it is not missed here."""
    state: IntArray
    """``PRESENT``, ``ABSENT`` by itself, or the number of the incident that it is in."""
    source: IntArray
    heard_s: FloatArray
    """What the stream's clock showed at its last record, or the end of a window in which it may be silent."""
    gaps: FloatArray
    patience_s: FloatArray
    """What follows from the gaps."""
    time_s: FloatArray
    """Of its last record."""
    offset: IntArray

    @classmethod
    def empty(cls, n: int, patience_s: float) -> "Rows":
        """Return n rows of entities never seen."""
        return cls(
            known=np.zeros(n, dtype=bool),
            missed=np.zeros(n, dtype=bool),
            left=np.zeros(n, dtype=bool),
            state=np.full(n, PRESENT, dtype=np.int64),
            source=np.zeros(n, dtype=np.int64),
            heard_s=np.full(n, -np.inf),
            gaps=initial_gaps(n),
            patience_s=np.full(n, patience_s),
            time_s=np.full(n, -np.inf),
            offset=np.zeros(n, dtype=np.int64),
        )

    def followed_by(self, other: "Rows") -> "Rows":
        both = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Rows(*(np.concatenate(pair) for pair in both))

    def alive(self) -> IntArray:
        """Return the slots of those who are missed when they stop, and did not."""
        return np.flatnonzero(self.missed & (self.state == PRESENT))

    def members(self, incident: int) -> IntArray:
        """Return the slots of those who stopped with an incident and are not back."""
        return np.flatnonzero(self.known & (self.state == incident))


@dataclass(frozen=True, slots=True)
class Stopped:
    """Some entities of which nothing comes any more."""

    input: str
    severity: str
    entity: str
    """As events say it."""
    names: list[str]
    labels: dict[str, str]
    alive: int
    """How many the input had before, they included."""

    def event(self, rows: Rows, slots: IntArray, sources: Sequence[Source], time_s: float) -> AbsenceEvent:
        """Return the event that they are absent.

        Args:
            rows: What is known.
            slots: Theirs, shape (E,), E >= 1.
            sources: The partitions, by the number in ``rows``.
            time_s: Of the stream.
        """
        newest = int(slots[np.argmax(rows.time_s[slots])])
        source, offset = sources[rows.source[newest]], int(rows.offset[newest])
        # A clock that is far ahead says nothing of when its entity was heard last.
        start_s = float(rows.time_s[newest])
        interval = usual_interval_s(rows.gaps[slots])
        usual = median(interval[np.isfinite(interval)], np.nan)
        return AbsenceEvent(
            kind="absence",
            alert_id=absence_id("absence", self.input, self.entity, source, offset),
            transition="firing",
            input=self.input,
            entity=self.entity,
            entities=listed(self.names),
            absent=len(slots),
            alive=self.alive,
            features=(),
            severity=self.severity,
            time=time_s,
            told=0,
            start=start_s if start_s <= time_s else float(rows.heard_s[newest]),
            end=None,
            usual_interval_s=None if np.isnan(usual) else usual,
            labels=self.labels,
            resolved_because=None,
            source=source,
            offset=offset,
        )


def median(x: FloatArray, of_none: float) -> float:
    """Return the upper median of some values, shape (N,), and ``of_none`` where there are none."""
    return float(np.partition(x, x.size // 2)[x.size // 2]) if x.size else of_none
