"""Alert events for tests, as the scorer writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec

from detector.alerting.absence_event import AbsenceEvent, absence_id
from detector.alerting.event import AlertEvent, FeatureReason, Transition, alert_id, event_id
from detector.alerting.incident_event import IncidentEvent, IncidentMember
from detector.batch import Source
from detector.delivery.alert import Alert, AlertRecord, decode_alert
from detector.stream.absence_record import encode_absence
from detector.stream.alert_record import AlertRecord as Encoded
from detector.stream.alert_record import encode_alert
from detector.stream.incident_record import encode_incident

ALERTS = Source("alerts", 0)
TELEMETRY = Source("telemetry", 0)


def event(
    transition: Transition,
    time_s: float,
    entity: str = "web-17",
    *,
    start_s: float | None = None,
    episode: int = 0,
) -> AlertEvent:
    """One end of an episode; ``episode`` tells those of one entity apart."""
    id = alert_id(TELEMETRY, episode, "hosts", entity)
    firing = transition == "firing"
    start_s = (time_s if firing else time_s - 60.0) if start_s is None else start_s
    return AlertEvent(
        id=event_id(id, transition, int(time_s)),
        alert_id=id,
        transition=transition,
        detector="hosts",
        role="champion",
        version="v1",
        entity=entity,
        severity="warning",
        reopened=0,
        time=time_s,
        expires_at=None,
        start=start_s,
        peak=start_s,
        end=None if firing else time_s,
        last_suspicious=time_s,
        records=5,
        surprise_nats=31.5,
        p_value=1e-6,
        anomaly_score=2.7,
        log_likelihood=-30.0,
        return_period_s=23 * 86_400.0,
        side="unlikely",
        member="gmm on none",
        explained=start_s,
        reasons=(FeatureReason("cpu", 0.97, 0.31, 0.06, 12.4),),
        regime=None,
        labels={"team": "shop"},
        updated_because=None,
        resolved_because=None if firing else "calm",
        source=TELEMETRY,
        first_offset=episode,
        last_offset=episode,
    )


def encoded(event: AlertEvent, more: Mapping[str, Any] | None = None) -> Encoded:
    """The record that the scorer writes, with further fields in its value."""
    record = encode_alert(event, "detector")
    if not more:
        return record
    return record._replace(value=msgspec.json.encode(msgspec.json.decode(record.value) | dict(more)))


def read(
    event: AlertEvent, offset: int, source: Source = ALERTS, more: Mapping[str, Any] | None = None
) -> tuple[AlertRecord, Alert]:
    """The same record as it is read, and what it says."""
    record = encoded(event, more)
    read = AlertRecord(source, offset, record.key, record.value, record.headers)
    return read, decode_alert(record.value)


def challenger(event: AlertEvent) -> AlertEvent:
    """The same of a model that scores in the shadow."""
    return replace(event, role="challenger")


def incident(
    transition: Literal["firing", "updated", "resolved"],
    time_s: float,
    *,
    entities: Sequence[str] = ("web-1", "web-2", "web-3", "web-4", "web-5"),
    start_s: float | None = None,
    severity: str = "warning",
) -> IncidentEvent:
    """What happened to an incident."""
    start_s = time_s if start_s is None else start_s
    id = f"incident-{TELEMETRY.partition}"
    return IncidentEvent(
        id=f"{id}-{transition}-{time_s}",
        incident_id=id,
        transition=transition,
        detector="hosts",
        role="champion",
        version="v1",
        severity=severity,
        time=time_s,
        start=start_s,
        end=time_s if transition == "resolved" else None,
        expires_at=None,
        entities=len(entities),
        firing=0 if transition == "resolved" else len(entities),
        members=tuple(
            IncidentMember(entity, f"alert-{entity}", start_s, "cpu", 2.7, transition != "resolved")
            for entity in entities
        ),
        features=(("cpu", len(entities)),),
        labels={"team": "shop"},
        updated_because="keep_alive" if transition == "updated" else None,
        source=TELEMETRY,
        first_offset=17,
    )


def read_incident(event: IncidentEvent, offset: int) -> tuple[AlertRecord, Alert]:
    """The incident's record as it is read, and what it says."""
    record = encode_incident(event, "detector")
    return AlertRecord(ALERTS, offset, record.key, record.value, record.headers), decode_alert(record.value)


def absence(
    transition: Literal["firing", "resolved"], time_s: float, entity: str = "web-17", **changes: Any
) -> tuple[AlertRecord, Alert]:
    """What is read of an entity that was heard last at 1.8e9."""
    fired = AbsenceEvent(
        kind="absence",
        alert_id=absence_id("absence", "telegraf", entity, TELEMETRY, 7),
        transition=transition,
        input="telegraf",
        entity=entity,
        entities=(entity,),
        absent=1,
        alive=40,
        features=(),
        severity="warning",
        time=time_s,
        told=0,
        start=1.8e9,
        end=time_s if transition == "resolved" else None,
        usual_interval_s=60.0,
        labels={"team": "shop"},
        resolved_because="returned" if transition == "resolved" else None,
        source=TELEMETRY,
        offset=7,
    )
    record = encode_absence(replace(fired, **changes), "detector")
    return AlertRecord(ALERTS, 0, record.key, record.value, record.headers), decode_alert(record.value)
