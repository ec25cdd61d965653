"""What the alerts topic says of the entities of partitions that come, so that open alerts go on.

A restart, a rebalance and an outage all lose the state of entities. Their alerts were told of, with ids that
people and receivers know; who reads their records next takes over what is open, instead of paging again for
the same and leaving the other to expire. What expired is over for those who were told, and is left alone.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from detector.alerting.absence_event import AbsenceEvent
from detector.alerting.event import AlertEvent
from detector.alerting.incident_event import IncidentEvent
from detector.alerting.reopened import ToldAlert
from detector.batch import Source
from detector.stream.port import RawRecords
from detector.stream.told_event import (
    ToldEvent,
    ToldHead,
    absence_of,
    alert_of,
    decode,
    decode_head,
    incident_of,
    seconds,
)

TIMEOUT_S = 30.0
"""For reading the topic back; what was not read by then is not known."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Recalled:
    """What is known of the entities of some partitions."""

    alerts: list[ToldAlert] = field(default_factory=list)
    """The newest of each entity under each detector, open or not."""
    incidents: list[IncidentEvent] = field(default_factory=list)
    """The newest event of each that is open and began on these partitions."""
    absences: list[AbsenceEvent] = field(default_factory=list)
    """The newest event of each that is open."""
    fires_for_s: dict[str, float] = field(default_factory=dict)
    """How long each alert that is open fires if nothing more is heard of it, by its id."""

    def firing(self, detector: str) -> list[tuple[AlertEvent, float]]:
        """Return a detector's alerts that are open, and for how long, in seconds."""
        return [
            (told.newest, self.fires_for_s[told.newest.alert_id])
            for told in self.alerts
            if told.is_open and told.newest.detector == detector
        ]

    @property
    def any(self) -> bool:
        """Whether anything was told."""
        return bool(self.alerts or self.incidents or self.absences)

    @property
    def open(self) -> int:
        """How many things go on."""
        return sum(alert.is_open for alert in self.alerts) + len(self.incidents) + len(self.absences)


def recall(
    polls: Iterable[RawRecords],
    sources: Collection[Source],
    now_s: float,
    alive: Callable[[], object],
    clock: Callable[[], float] = time.monotonic,
) -> Recalled:
    """Return what records of the alerts topic say.

    Args:
        polls: Its records, each partition's in order; what is no event of a champion is passed over.
        sources: The partitions of the entities that matter.
        now_s: Wall clock.
        alive: Called now and then.
        clock: Monotonic seconds.
    """
    newest: dict[tuple[str, ...], _Read] = {}
    fired: dict[str, ToldHead] = {}
    began_s = clock()
    for raw in polls:
        alive()
        for read in _read(raw):
            told = read.head
            if told.source not in sources:
                continue
            key = _key(told)
            if key not in newest or told.newness >= newest[key].head.newness:
                newest[key] = read
            if told.state == "firing" and told.kind == "anomaly":
                before = fired.setdefault(told.alert_id, told)
                if told.newness > before.newness:
                    fired[told.alert_id] = told
        if clock() - began_s > TIMEOUT_S:
            _log.error(
                "the alerts topic was not read back within %.0f s: open alerts that were not met by then "
                "are raised anew, and those of before expire",
                TIMEOUT_S,
            )
            break
    recalled = Recalled()
    for _, value, written_s in newest.values():
        event = decode(value)
        if event is None:
            continue
        left_s = _expiry_s(event, written_s) - now_s
        is_open = event.state != "resolved" and left_s > 0.0
        if event.kind == "anomaly":
            if is_open:
                recalled.fires_for_s[event.alert_id] = left_s
            fired_at = fired[event.alert_id].time if event.alert_id in fired else event.start
            recalled.alerts.append(ToldAlert(alert_of(event), seconds(fired_at), is_open))
        elif is_open and event.kind == "incident":
            recalled.incidents.append(incident_of(event))
        elif is_open:
            recalled.absences.append(absence_of(event))
    return recalled


class _Read(NamedTuple):
    """A record of the alerts topic: after a storm most are old, and only their heads are decoded."""

    head: ToldHead
    value: bytes
    written_s: float
    """When Kafka got it."""


def _read(raw: RawRecords) -> Iterator[_Read]:
    """Yield events of champions."""
    written_s = raw.timestamps_s().tolist()
    for i, value in enumerate(raw.value):
        if not value:
            continue
        head = decode_head(value)
        if head is not None and head.role == "champion":
            yield _Read(head, value, written_s[i])


def _key(event: ToldHead) -> tuple[str, ...]:
    """Return what an event is about; of an entity only the newest alert matters."""
    if event.kind == "anomaly":
        return event.kind, event.detector, event.origin.topic, str(event.origin.partition), event.entity
    return event.kind, event.alert_id


def _expiry_s(event: ToldEvent, written_s: float) -> float:
    """Return when those who were told take an alert to be over."""
    if event.expires_at is None:
        return -float("inf")
    # How long, not when: records may lag behind the clock, and their alerts are no less alive.
    return written_s + (event.expires_at - event.time).total_seconds()
