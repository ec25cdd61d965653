"""Alert events as CloudEvents 1.0 on Kafka, in binary mode: attributes in headers, data in the value.

See the CloudEvents specification 1.0.2 and its Kafka protocol binding, section 3.2.
"""

import re
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import numpy as np

from detector.alerting.event import AlertEvent, Stuck
from detector.models.contract import Regime
from detector.stream.event_time import to_datetimes
from detector.stream.port import Header

MAX_VALUE_BYTES = 65_536
LABEL_LENGTH = 256

# Attributes may not hold control characters, and an entity may.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")

_encoder = msgspec.json.Encoder()


class AlertRecord(NamedTuple):
    """What is sent: the key is the entity, so one entity's alerts stay in order."""

    key: bytes
    value: bytes
    headers: list[Header]


def encode_alert(event: AlertEvent, group_id: str) -> AlertRecord:
    """Return the record of an event.

    ``ce_source`` names the consumer group and ``ce_id`` the event, which is the same again after a
    redelivery: together they tell consumers which repeats to drop.

    Args:
        event: What happened.
        group_id: The daemon's consumer group.
    """
    headers = cloud_event(event.id, f"alert.{event.transition}", event.entity, event.time, group_id)
    return AlertRecord(event.entity.encode(), _value(event), headers)


def without_details(value: bytes) -> bytes:
    """Return an event of the alerts topic, of any kind, without what its readers can do without."""
    data = msgspec.json.decode(value)
    short: dict[str, Any] = {"labels": {}, "reasons": [], "members": [], "regime": None}
    left_out = {name: nothing for name, nothing in short.items() if data.get(name)}
    if not left_out:
        return value
    if "members" in left_out:
        left_out["members_left_out"] = data["members_left_out"] + len(data["members"])
    return _encoder.encode(data | left_out)


def cloud_event(id: str, what: str, subject: str, time: float, group_id: str) -> list[Header]:
    """Return the attributes of a CloudEvent as headers.

    Args:
        id: The event's own.
        what: Its type, between ``io.detector.`` and the version.
        subject: What it happened to.
        time: When, seconds since 1970.
        group_id: The daemon's consumer group.
    """
    attributes = {
        "specversion": "1.0",
        "id": id,
        "source": f"/detector/{quote(group_id, safe='')}",
        "type": f"io.detector.{what}.v1",
        "subject": _CONTROL.sub("\N{REPLACEMENT CHARACTER}", subject),
        "time": time_text(time),
    }
    headers: list[Header] = [("content-type", b"application/json")]
    return headers + [(f"ce_{name}", text.encode()) for name, text in attributes.items()]


def _value(event: AlertEvent) -> bytes:
    data: dict[str, Any] = {
        "kind": "anomaly",
        "alert_id": event.alert_id,
        "state": event.transition,
        "detector": event.detector,
        "role": event.role,
        "version": event.version,
        "entity": event.entity,
        "severity": event.severity,
        "reopened": event.reopened,
        "labels": {name: text[:LABEL_LENGTH] for name, text in event.labels.items()},
        "time": time_text(event.time),
        "expires_at": None if event.expires_at is None else time_text(event.expires_at),
        "start": time_text(event.start),
        "peak": time_text(event.peak),
        "end": None if event.end is None else time_text(event.end),
        "last_suspicious": time_text(event.last_suspicious),
        "records": event.records,
        "surprise_nats": event.surprise_nats,
        "p_value": event.p_value,
        "anomaly_score": event.anomaly_score,
        "log_likelihood": event.log_likelihood,
        "return_period_s": event.return_period_s,
        "return_period": return_period_text(event.return_period_s),
        "side": event.side,
        "member": event.member,
        "explained": time_text(event.explained),
        "reasons": [
            {
                "feature": reason.feature,
                "actual": reason.actual,
                "expected": reason.expected,
                "std": reason.std,
                "nats": reason.nats,
                "unit": reason.unit,
                "valid_range": reason.valid_range,
                "stuck": None if reason.stuck is None else _stuck(reason.stuck),
                "frequency": reason.frequency,
            }
            for reason in event.reasons
        ],
        "regime": None if event.regime is None else _regime(event.regime, event.explained - event.start),
        "updated_because": event.updated_because,
        "resolved_because": event.resolved_because,
        "incident_id": event.incident_id,
        "origin": {
            "topic": event.source.topic,
            "partition": event.source.partition,
            "first_offset": event.first_offset,
            "last_offset": event.last_offset,
        },
    }
    value = _encoder.encode(data)
    if len(value) > MAX_VALUE_BYTES:
        # Everything else has bounded length; labels are only as few as their configuration.
        value = _encoder.encode(data | {"labels": {}, "labels_left_out": len(event.labels)})
    return value


def _stuck(stuck: Stuck) -> dict[str, Any]:
    return stuck._asdict() | {"since": time_text(stuck.since)}


def return_period_text(seconds: float) -> str:
    """Say how often normal traffic does this: ``normally once in 23 days on this entity``."""
    if not seconds < 1000 * _YEAR_S:
        return "normally less than once in 1,000 years on this entity"
    return f"normally once in {_duration_text(seconds)} on this entity"


def regime_text(regime: Regime, episode_s: float) -> str:
    """Say where the entity is: ``left state 3, where it had been for 4 hours, ...``, or ``in state 3 ...``.

    Args:
        regime: At the record that is explained.
        episode_s: Seconds from the start of the episode to that record; a state that was left before is
            no news.
    """
    left = regime.left
    # Times are floats of seconds since 1970, so a record's own is met to a microsecond only.
    if left is not None and regime.for_s is not None and regime.for_s <= episode_s + 1e-3:
        return (
            f"left {regime.kind} {left.index}, where it had been for {_duration_text(left.for_s)}, "
            f"by a transition of probability {_probability_text(left.transition_probability)}; "
            f"now in {regime.kind} {regime.index}"
        )
    stay = "" if not regime.for_s else f" for {_duration_text(regime.for_s)}"
    return f"in {regime.kind} {regime.index}{stay}, with probability {_probability_text(regime.probability)}"


def _regime(regime: Regime, episode_s: float) -> dict[str, Any]:
    left = regime.left
    return {
        "kind": regime.kind,
        "index": regime.index,
        "probability": regime.probability,
        "for_s": regime.for_s,
        "left": left
        and {
            "index": left.index,
            "for_s": left.for_s,
            "transition_probability": left.transition_probability,
        },
        "text": regime_text(regime, episode_s),
    }


def _duration_text(seconds: float) -> str:
    unit, length = next((unit, length) for unit, length in _UNITS if seconds >= length or length == 1)
    count = seconds / length
    # No duration told here is known to more than two digits.
    number = f"{count:.1f}".removesuffix(".0") if count < 10 else f"{count:.0f}"
    return f"{number} {unit}{'' if number == '1' else 's'}"


def _probability_text(probability: float) -> str:
    # Two digits, but no 1 for what is less: 1 - 1e-5 is not certain.
    text = f"{min(probability, 0.99) if probability < 1 else probability:.2g}"
    return re.sub(r"e-0?", "e-", text)


_YEAR_S = 365.25 * 86_400
_UNITS = (("year", _YEAR_S), ("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def time_text(seconds: float) -> str:
    """Return RFC 3339 text of seconds since 1970."""
    return to_datetimes(np.array([seconds]))[0].isoformat().replace("+00:00", "Z")
