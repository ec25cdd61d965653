"""Tests for detector.delivery.alert: events as they are read back."""

import json
from typing import Any

import pytest

from detector.delivery.alert import MAX_ALERT_BYTES, UnreadableAlertError, decode_alert, event_id
from tests.delivery.events import encoded, event, incident, read_incident


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(encoded(event("firing", 1.8e9)).value), **fields}).encode()


def test_what_the_scorer_writes_is_read_back() -> None:
    written = event("firing", 1.8e9)
    alert = decode_alert(encoded(written).value)
    assert (alert.alert_id, alert.state, alert.entity) == (written.alert_id, "firing", "web-17")
    assert alert.time.timestamp() == alert.start.timestamp() == 1.8e9
    assert alert.reasons[0].nats == 12.4
    assert alert.labels == {"team": "shop"}
    assert event_id(alert, encoded(written).headers) == written.id


def test_an_incident_is_read_back_and_needs_no_entity() -> None:
    _, alert = read_incident(incident("firing", 1.8e9, entities=["a", "b"]), 0)
    assert (alert.kind, alert.entity, alert.entities, alert.state) == ("incident", "", 2, "firing")
    assert [(m.entity, m.alert_id, m.feature) for m in alert.members] == [
        ("a", "alert-a", "cpu"),
        ("b", "alert-b", "cpu"),
    ]
    assert alert.origin is not None
    assert (alert.origin.topic, alert.origin.partition) == ("telemetry", 0)


def test_fields_of_a_later_version_do_no_harm() -> None:
    alert = decode_alert(changed(state="updated", expires_at="2027-01-15T08:00:00Z", later=["a"]))
    assert alert.state == "updated"
    assert alert.expires_at is not None
    assert alert.expires_at.timestamp() == 1.8e9


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 5000,
        changed(state="exploded"),
        changed(time="yesterday"),
        changed(time="2027-01-15T08:00:00"),
        changed(labels={"a": 1}),
        changed(entity=None),
        changed(severity=""),
        b" " * (MAX_ALERT_BYTES + 1),
    ],
    ids=lambda value: value[:20].decode(errors="replace") if value else "empty",
)
def test_what_is_no_alert_is_told_apart(value: bytes) -> None:
    with pytest.raises(UnreadableAlertError):
        decode_alert(value)


@pytest.mark.parametrize("given", [b"a\r\nX-Evil: 1", b"", b"a b", b"x" * 500, b"\xff"])
def test_an_id_is_fit_for_a_header_and_stays_the_same(given: bytes) -> None:
    alert = decode_alert(changed())
    first = event_id(alert, [("ce_id", given)])
    assert first == event_id(alert, [("ce_id", given)])
    assert first.isascii()
    assert first.replace("-", "").replace("_", "").isalnum()
