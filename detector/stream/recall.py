"""What the alerts topic says of the entities of partitions that come, so that open alerts go on.

A restart, a rebalance and an outage all lose the state of entities. Their alerts were told of, with ids that
people and receivers know; who reads their records next takes over what is open, instead of paging again for
the same and leaving the other to expire. What expired is over for those who were told, and is left alone.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from detector.alerting.absence_event import AbsenceEvent
from detector.alerting.event import (
    AlertEvent,
    FeatureReason,
    ResolvedBecause,
    Side,
    UpdatedBecause,
    event_id,
)
from detector.alerting.incidents import IncidentEvent, IncidentMember
from detector.alerting.reopened import ToldAlert
from detector.batch import Source
from detector.models.contract import LeftRegime, Regime
from detector.stream.port import RawRecords

TIMEOUT_S = 30.0
"""For reading the topic back; what was not read by then is not known."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = logging.getLogger(__name__)

_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_Number = float | None
"""A number that is none, or infinite, is null in JSON."""


class _Reason(msgspec.Struct, frozen=True):
    feature: str
    actual: float | str | None = None
    expected: float | str | None = None
    std: float | None = None
    nats: _Number = None
    unit: str | None = None
    valid_range: tuple[float | None, float | None] | None = None


class _Left(msgspec.Struct, frozen=True):
    index: int
    for_s: float
    transition_probability: float


class _Regime(msgspec.Struct, frozen=True):
    kind: Literal["component", "state", "class"]
    index: int
    probability: float
    for_s: float | None = None
    left: _Left | None = None


class _Member(msgspec.Struct, frozen=True):
    entity: str
    alert_id: str = ""
    start: _Time | None = None
    feature: str | None = None


class _Shared(msgspec.Struct, frozen=True):
    feature: str
    entities: int


class _Origin(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    first_offset: int
    last_offset: int = -1


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    """Any event of the alerts topic, as this version and those before it write them."""

    kind: Literal["anomaly", "incident", "absence"] = "anomaly"
    alert_id: str
    state: Literal["firing", "updated", "resolved"]
    detector: str
    role: str
    version: str = ""
    input: str = ""
    entity: str = ""
    severity: Literal["info", "warning", "critical"]
    reopened: int = 0
    labels: dict[str, str] = {}
    time: _Time
    told: int = 0
    expires_at: _Time | None = None
    start: _Time
    peak: _Time | None = None
    end: _Time | None = None
    records: int = 0
    surprise_nats: _Number = None
    p_value: _Number = None
    anomaly_score: _Number = None
    log_likelihood: _Number = None
    return_period_s: _Number = None
    side: Side = "unlikely"
    member: str = ""
    explained: _Time | None = None
    reasons: tuple[_Reason, ...] = ()
    regime: _Regime | None = None
    updated_because: UpdatedBecause | None = None
    resolved_because: str | None = None
    incident_id: str | None = None
    entities: int = 0
    alive: int = 0
    usual_interval_s: float | None = None
    firing: int = 0
    members: tuple[_Member, ...] = ()
    features: tuple[_Shared, ...] = ()
    origin: _Origin

    @property
    def source(self) -> Source:
        return Source(self.origin.topic, self.origin.partition)

    @property
    def newness(self) -> tuple[datetime, int]:
        """By which events of one alert are in order: after a crash some are written a second time."""
        return self.time, self.origin.last_offset


_decoder = msgspec.json.Decoder(_Event)


@dataclass(slots=True)
class Recalled:
    """What is known of the entities of some partitions."""

    alerts: list[ToldAlert] = field(default_factory=list)
    """The newest of each entity under each detector, open or not."""
    incidents: list[IncidentEvent] = field(default_factory=list)
    """The newest event of each that is open and began on these partitions."""
    absences: list[AbsenceEvent] = field(default_factory=list)
    """The newest event of each that is open."""

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
    newest: dict[tuple[str, ...], tuple[_Event, float]] = {}
    fired: dict[str, _Event] = {}
    began_s = clock()
    for raw in polls:
        alive()
        for event, written_s in _events(raw):
            if event.source not in sources:
                continue
            key = _key(event)
            if key not in newest or event.newness >= newest[key][0].newness:
                newest[key] = event, written_s
            if event.state == "firing" and event.kind == "anomaly":
                before = fired.setdefault(event.alert_id, event)
                if event.newness > before.newness:
                    fired[event.alert_id] = event
        if clock() - began_s > TIMEOUT_S:
            _log.error(
                "the alerts topic was not read back within %.0f s: open alerts that were not met by then "
                "are raised anew, and those of before expire",
                TIMEOUT_S,
            )
            break
    recalled = Recalled()
    for event, written_s in newest.values():
        is_open = event.state != "resolved" and now_s < _expiry_s(event, written_s)
        if event.kind == "anomaly":
            fired_at = fired[event.alert_id].time if event.alert_id in fired else event.start
            recalled.alerts.append(ToldAlert(_alert(event), _seconds(fired_at), is_open))
        elif is_open and event.kind == "incident":
            recalled.incidents.append(_incident(event))
        elif is_open:
            recalled.absences.append(_absence(event))
    return recalled


def _events(raw: RawRecords) -> Iterator[tuple[_Event, float]]:
    """Yield events of champions and when Kafka got them."""
    written_s = raw.timestamps_s().tolist()
    for i, value in enumerate(raw.value):
        if not value:
            continue
        try:
            event = _decoder.decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        if event.role == "champion":
            yield event, written_s[i]


def _key(event: _Event) -> tuple[str, ...]:
    """Return what an event is about; of an entity only the newest alert matters."""
    if event.kind == "anomaly":
        return event.kind, event.detector, event.origin.topic, str(event.origin.partition), event.entity
    return event.kind, event.alert_id


def _expiry_s(event: _Event, written_s: float) -> float:
    """Return when those who were told take an alert to be over."""
    if event.expires_at is None:
        return -float("inf")
    # How long, not when: records may lag behind the clock, and their alerts are no less alive.
    return written_s + (event.expires_at - event.time).total_seconds()


def _alert(event: _Event) -> AlertEvent:
    return AlertEvent(
        id=event_id(event.alert_id, event.state, event.origin.last_offset),
        alert_id=event.alert_id,
        transition=event.state,
        detector=event.detector,
        role=event.role,
        version=event.version,
        entity=event.entity,
        severity=event.severity,
        reopened=event.reopened,
        time=_seconds(event.time),
        expires_at=None if event.expires_at is None else _seconds(event.expires_at),
        start=_seconds(event.start),
        peak=_seconds(event.peak or event.start),
        end=None if event.end is None else _seconds(event.end),
        records=event.records,
        surprise_nats=_number(event.surprise_nats, float("inf")),
        p_value=_number(event.p_value),
        anomaly_score=_number(event.anomaly_score),
        log_likelihood=_number(event.log_likelihood, -float("inf")),
        return_period_s=_number(event.return_period_s, float("inf")),
        side=event.side,
        member=event.member,
        explained=_seconds(event.explained or event.start),
        reasons=tuple(_reason(reason) for reason in event.reasons),
        regime=None if event.regime is None else _regime(event.regime),
        labels=event.labels,
        updated_because=event.updated_because,
        resolved_because=_resolved_because(event.resolved_because),
        source=event.source,
        first_offset=event.origin.first_offset,
        last_offset=event.origin.last_offset,
        incident_id=event.incident_id,
    )


def _incident(event: _Event) -> IncidentEvent:
    return IncidentEvent(
        id="",
        incident_id=event.alert_id,
        transition=event.state,
        detector=event.detector,
        role=event.role,
        version=event.version,
        severity=event.severity,
        time=_seconds(event.time),
        start=_seconds(event.start),
        end=None,
        expires_at=None if event.expires_at is None else _seconds(event.expires_at),
        entities=event.entities,
        firing=event.firing,
        members=tuple(
            IncidentMember(
                member.entity, member.alert_id, _seconds(member.start or event.start), member.feature
            )
            for member in event.members
        ),
        features=tuple((shared.feature, shared.entities) for shared in event.features),
        labels=event.labels,
        source=event.source,
        first_offset=event.origin.first_offset,
    )


def _absence(event: _Event) -> AbsenceEvent:
    return AbsenceEvent(
        kind="absence",
        alert_id=event.alert_id,
        transition=event.state,
        input=event.input,
        entity=event.entity,
        entities=tuple(member.entity for member in event.members),
        absent=event.entities,
        alive=event.alive,
        features=(),
        severity=event.severity,
        time=_seconds(event.time),
        told=event.told,
        start=_seconds(event.start),
        end=None,
        usual_interval_s=event.usual_interval_s,
        labels=event.labels,
        resolved_because=None,
        source=event.source,
        offset=event.origin.last_offset,
    )


def _reason(reason: _Reason) -> FeatureReason:
    return FeatureReason(
        reason.feature,
        reason.actual,
        reason.expected,
        reason.std,
        _number(reason.nats),
        reason.unit,
        reason.valid_range,
    )


def _regime(regime: _Regime) -> Regime:
    left = regime.left
    return Regime(
        regime.kind,
        regime.index,
        regime.probability,
        regime.for_s,
        None if left is None else LeftRegime(left.index, left.for_s, left.transition_probability),
    )


def _resolved_because(text: str | None) -> ResolvedBecause | None:
    return next((because for because in _ENDS if because == text), None)


_ENDS: tuple[ResolvedBecause, ...] = ("calm", "new_normal", "maintenance")


def _number(number: _Number, of_null: float = float("nan")) -> float:
    return of_null if number is None else number


def _seconds(time: datetime) -> float:
    return (time - _EPOCH).total_seconds()
