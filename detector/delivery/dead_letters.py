"""Alert events that nobody could be told of, as records of the dead-letter topic.

Headers are those of ``stream.dead_letter``, named after Kafka Connect's, behind the original ones.
"""

from typing import NamedTuple

from detector.delivery.alert import AlertRecord
from detector.stream.dead_letter import bounded
from detector.stream.port import Header


class DeadLetter(NamedTuple):
    """What is sent."""

    key: bytes | None
    value: bytes
    headers: list[Header]


def undelivered(
    record: AlertRecord, receiver: str, reason: str, detail: str, notification_id: str
) -> DeadLetter:
    """Return the record for one receiver that did not take an event.

    Args:
        record: The event as it was read.
        receiver: Name and address.
        reason: One of ``Ending``.
        detail: What the receiver said last.
        notification_id: What the receiver would have known it by.
    """
    said = {"detector.receiver": receiver, "detector.notification.id": notification_id}
    return _letter(record, "TASK_PUT", reason, detail, said)


def unreadable(record: AlertRecord, detail: str) -> DeadLetter:
    """Return the record for something on the alerts topic that is no alert event."""
    return _letter(record, "VALUE_CONVERTER", "unreadable", detail, {})


def _letter(record: AlertRecord, stage: str, reason: str, detail: str, more: dict[str, str]) -> DeadLetter:
    context = {
        "__connect.errors.topic": record.source.topic,
        "__connect.errors.partition": str(record.source.partition),
        "__connect.errors.offset": str(record.offset),
        "__connect.errors.stage": stage,
        "__connect.errors.exception.message": detail,
        "detector.reason": reason,
        **more,
    }
    return DeadLetter(*bounded(record.key, record.value, record.headers, context))
