"""Events of absence on the alerts topic: CloudEvents like those of episodes, with their own ``kind``."""

from typing import Any

import msgspec

from detector.alerting.absence_event import AbsenceEvent
from detector.stream.alert_record import LABEL_LENGTH, AlertRecord, cloud_event, time_text

_encoder = msgspec.json.Encoder()


def encode_absence(event: AbsenceEvent, group_id: str) -> AlertRecord:
    """Return the record of an event; its key is the entity, ``*`` where many are absent.

    Fields that an alert has as well mean the same; there is no detector, but an ``input``.

    Args:
        event: What happened.
        group_id: The daemon's consumer group.
    """
    headers = cloud_event(event.id, f"{event.kind}.{event.transition}", event.entity, event.time, group_id)
    data: dict[str, Any] = {
        "kind": event.kind,
        "alert_id": event.alert_id,
        "state": event.transition,
        "detector": "",
        "input": event.input,
        "role": "champion",
        "entity": event.entity,
        "severity": event.severity,
        "labels": {name: text[:LABEL_LENGTH] for name, text in event.labels.items()},
        "time": time_text(event.time),
        "told": event.told,
        "expires_at": None if event.expires_at is None else time_text(event.expires_at),
        "start": time_text(event.start),
        "end": None if event.end is None else time_text(event.end),
        "entities": event.absent,
        "members": [{"entity": entity} for entity in event.entities],
        "members_left_out": event.absent - len(event.entities),
        "alive": event.alive,
        "features": [{"feature": feature, "entities": event.absent} for feature in event.features],
        "usual_interval_s": event.usual_interval_s,
        "resolved_because": event.resolved_because,
        "origin": {
            "topic": event.source.topic,
            "partition": event.source.partition,
            "first_offset": event.offset,
            "last_offset": event.offset,
        },
    }
    return AlertRecord(event.entity.encode(), _encoder.encode(data), headers)
