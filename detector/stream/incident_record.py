"""Incidents on the alerts topic: CloudEvents like those of their members, with ``kind: incident``."""

from typing import Any

import msgspec

from detector.alerting.incident_event import IncidentEvent
from detector.stream.alert_record import LABEL_LENGTH, MAX_VALUE_BYTES, AlertRecord, cloud_event, time_text

_encoder = msgspec.json.Encoder()


def encode_incident(event: IncidentEvent, group_id: str) -> AlertRecord:
    """Return the record of an event; the key is the detector, so its incidents stay in order.

    Fields that an alert has as well mean the same; there is no entity, but ``members``, as many as fit.

    Args:
        event: What happened.
        group_id: The daemon's consumer group.
    """
    headers = cloud_event(event.id, f"incident.{event.transition}", event.detector, event.time, group_id)
    listed = len(event.members)
    while len(value := _encoder.encode(_data(event, listed))) > MAX_VALUE_BYTES and listed:
        listed //= 2
    return AlertRecord(event.detector.encode(), value, headers)


def _data(event: IncidentEvent, listed: int) -> dict[str, Any]:
    return {
        "kind": "incident",
        "alert_id": event.incident_id,
        "state": event.transition,
        "detector": event.detector,
        "role": event.role,
        "version": event.version,
        "severity": event.severity,
        "labels": {name: text[:LABEL_LENGTH] for name, text in event.labels.items()},
        "time": time_text(event.time),
        "expires_at": None if event.expires_at is None else time_text(event.expires_at),
        "start": time_text(event.start),
        "end": None if event.end is None else time_text(event.end),
        "entities": event.entities,
        "firing": event.firing,
        "members": [
            {
                "entity": member.entity,
                "alert_id": member.alert_id,
                "start": time_text(member.start),
                "feature": member.feature,
                "anomaly_score": member.anomaly_score,
                "firing": member.firing,
            }
            for member in event.members[:listed]
        ],
        "members_left_out": event.entities - listed,
        "features": [{"feature": name, "entities": count} for name, count in event.features],
        "updated_because": event.updated_because,
        "origin": {
            "topic": event.source.topic,
            "partition": event.source.partition,
            "first_offset": event.first_offset,
        },
    }
