"""Tests for detector.delivery.alert: events as they are read back."""

import json
from typing import Any

import pytest

from detector.delivery.alert import MAX_ALERT_BYTES, UnreadableAlertError, decode_alert, event_id
from tests.delivery.events import encoded, event


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


def test_fields_of_a_later_version_do_no_harm() -> None:
    alert = decode_alert(changed(state="updated", expires_at="2027-01-15T08:00:00Z", members=["a"]))
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
