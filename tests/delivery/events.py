"""Alert events for tests, as the scorer writes them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from detector.alerting.event import AlertEvent, FeatureReason, Transition, alert_id, event_id
from detector.batch import Source
from detector.delivery.alert import Alert, AlertRecord, decode_alert
from detector.stream.alert_record import AlertRecord as Encoded
from detector.stream.alert_record import encode_alert

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
        id=event_id(id, transition),
        alert_id=id,
        transition=transition,
        detector="hosts",
        role="champion",
        version="v1",
        entity=entity,
        severity="warning",
        time=time_s,
        start=start_s,
        peak=start_s,
        end=None if firing else time_s,
        records=5,
        surprise_nats=31.5,
        p_value=1e-6,
        anomaly_score=2.7,
        log_likelihood=-30.0,
        return_period_s=23 * 86_400.0,
        side="unlikely",
        member="gmm on none",
        reasons=(FeatureReason("cpu", 0.97, 0.31, 0.06, 12.4),) if firing else (),
        regime=None,
        labels={"team": "shop"},
        resolved_because=None,
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
