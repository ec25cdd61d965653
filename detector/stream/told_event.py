"""An event as the alerts topic has it, read back into what it was written from.

The deliverer reads the same records its own way (``delivery/alert.py``): it tells people what it understands
and passes over the rest. Here an alert is to go on, so a record that is not whole is no event.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

import msgspec

from detector.alerting.absence_event import AbsenceEvent
from detector.alerting.event import (
    AlertEvent,
    FeatureReason,
    Frequency,
    ResolvedBecause,
    Side,
    Stuck,
    Transition,
    UpdatedBecause,
    event_id,
)
from detector.alerting.incident_event import IncidentEvent, IncidentMember
from detector.batch import Source
from detector.models.contract import LeftRegime, Regime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENDS: tuple[ResolvedBecause, ...] = ("calm", "new_normal", "maintenance", "muted")

_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_Number = float | None
"""A number that is none, or infinite, is null in JSON."""


class _Stuck(msgspec.Struct, frozen=True):
    value: float
    since: _Time
    for_s: float
    after_s: float


class _Frequency(msgspec.Struct, frozen=True):
    of: Literal["share", "mean"]
    value: str | float | None
    actual: float
    expected: float
    records: int


class _Reason(msgspec.Struct, frozen=True):
    feature: str
    actual: float | str | None = None
    expected: float | str | None = None
    std: float | None = None
    nats: _Number = None
    unit: str | None = None
    valid_range: tuple[float | None, float | None] | None = None
    stuck: _Stuck | None = None
    frequency: _Frequency | None = None


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
    anomaly_score: _Number = None
    firing: bool = True


class _Shared(msgspec.Struct, frozen=True):
    feature: str
    entities: int


class _Origin(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    first_offset: int
    last_offset: int = -1


class ToldHead(msgspec.Struct, frozen=True, kw_only=True):
    """What an event of the alerts topic is about: all that matters of one that a newer one makes old."""

    kind: Literal["anomaly", "incident", "absence"] = "anomaly"
    alert_id: str
    state: Transition
    detector: str
    role: str
    entity: str = ""
    time: _Time
    origin: _Origin

    @property
    def source(self) -> Source:
        return Source(self.origin.topic, self.origin.partition)

    @property
    def newness(self) -> tuple[datetime, int]:
        """By which events of one alert are in order: after a crash some are written a second time."""
        return self.time, self.origin.last_offset


class ToldEvent(ToldHead, frozen=True, kw_only=True):
    """An event of the alerts topic, but of vanished features, as this version and earlier ones write it."""

    version: str = ""
    input: str = ""
    severity: Literal["info", "warning", "critical"]
    reopened: int = 0
    labels: dict[str, str] = {}
    told: int = 0
    expires_at: _Time | None = None
    start: _Time
    peak: _Time | None = None
    end: _Time | None = None
    last_suspicious: _Time | None = None
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


_Told = TypeVar("_Told", bound=ToldHead)
_heads, _events = msgspec.json.Decoder(ToldHead), msgspec.json.Decoder(ToldEvent)


def decode_head(value: bytes) -> ToldHead | None:
    """Return what the event that a record of the alerts topic is begins with; None where it is none."""
    return _decoded(_heads, value)


def decode(value: bytes) -> ToldEvent | None:
    """Return the event that a record of the alerts topic is; None where it is none."""
    return _decoded(_events, value)


def _decoded(decoder: "msgspec.json.Decoder[_Told]", value: bytes) -> _Told | None:
    try:
        return decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def alert_of(event: ToldEvent) -> AlertEvent:
    """Return the event of kind ``anomaly``."""
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
        time=seconds(event.time),
        expires_at=None if event.expires_at is None else seconds(event.expires_at),
        start=seconds(event.start),
        peak=seconds(event.peak or event.start),
        end=None if event.end is None else seconds(event.end),
        # Earlier versions told it at the end alone.
        last_suspicious=seconds(event.last_suspicious or event.end or event.time),
        records=event.records,
        surprise_nats=_number(event.surprise_nats, float("inf")),
        p_value=_number(event.p_value),
        anomaly_score=_number(event.anomaly_score),
        log_likelihood=_number(event.log_likelihood, -float("inf")),
        return_period_s=_number(event.return_period_s, float("inf")),
        side=event.side,
        member=event.member,
        explained=seconds(event.explained or event.start),
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


def incident_of(event: ToldEvent) -> IncidentEvent:
    """Return the event of kind ``incident``."""
    return IncidentEvent(
        id="",
        incident_id=event.alert_id,
        transition=event.state,
        detector=event.detector,
        role=event.role,
        version=event.version,
        severity=event.severity,
        time=seconds(event.time),
        start=seconds(event.start),
        end=None,
        expires_at=None if event.expires_at is None else seconds(event.expires_at),
        entities=event.entities,
        firing=event.firing,
        members=tuple(
            IncidentMember(
                member.entity,
                member.alert_id,
                seconds(member.start or event.start),
                member.feature,
                _number(member.anomaly_score),
                member.firing,
            )
            for member in event.members
        ),
        features=tuple((shared.feature, shared.entities) for shared in event.features),
        labels=event.labels,
        updated_because=event.updated_because,
        source=event.source,
        first_offset=event.origin.first_offset,
    )


def absence_of(event: ToldEvent) -> AbsenceEvent:
    """Return the event of kind ``absence``."""
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
        time=seconds(event.time),
        told=event.told,
        start=seconds(event.start),
        end=None,
        usual_interval_s=event.usual_interval_s,
        labels=event.labels,
        resolved_because=None,
        source=event.source,
        offset=event.origin.last_offset,
    )


def _reason(reason: _Reason) -> FeatureReason:
    stuck, often = reason.stuck, reason.frequency
    return FeatureReason(
        reason.feature,
        reason.actual,
        reason.expected,
        reason.std,
        _number(reason.nats),
        reason.unit,
        reason.valid_range,
        None if stuck is None else Stuck(stuck.value, seconds(stuck.since), stuck.for_s, stuck.after_s),
        None
        if often is None
        else Frequency(often.of, often.value, often.actual, often.expected, often.records),
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


def _number(number: _Number, of_null: float = float("nan")) -> float:
    return of_null if number is None else number


def seconds(time: datetime) -> float:
    """Return seconds since 1970 UTC."""
    return (time - _EPOCH).total_seconds()
