"""Tests for detector.stream.alert_record."""

import json
import re
from dataclasses import replace
from datetime import datetime

import pytest

from detector.alerting.event import AlertEvent, FeatureReason, Frequency, Stuck, alert_id, event_id
from detector.batch import Source
from detector.models.contract import LeftRegime, Regime
from detector.stream.alert_record import MAX_VALUE_BYTES, encode_alert, regime_text, return_period_text

SOURCE = Source("telemetry", 0)
ALERT = alert_id(SOURCE, 40, "hosts", "web-17")
EVENT = AlertEvent(
    id=event_id(ALERT, "firing", 42),
    alert_id=ALERT,
    transition="firing",
    detector="hosts",
    role="champion",
    version="v1",
    entity="web-17",
    severity="warning",
    reopened=1,
    time=1795186800.0,
    expires_at=1795187700.0,
    start=1795186740.0,
    peak=1795186800.0,
    end=None,
    last_suspicious=1795186799.5,
    records=2,
    surprise_nats=31.5,
    p_value=1e-6,
    anomaly_score=2.7,
    log_likelihood=float("-inf"),
    return_period_s=23 * 86_400.0,
    side="too_likely",
    member="gmm on none",
    explained=1795186800.0,
    reasons=(
        FeatureReason("cpu", 0.97, 0.31, 0.06, 12.5, "1", valid_range=(None, 0.9)),
        FeatureReason("memory", None, 0.5, 0.1, 0.0),
        FeatureReason("load", 3.2, 3.1, 0.1, 0.0, stuck=Stuck(3.2, 1795184400.0, 2400.0, 1800.0)),
        FeatureReason("status", "200", "200", None, 9.0, frequency=Frequency("share", "503", 0.27, 0.01, 20)),
    ),
    regime=Regime("state", 5, 0.9996, 30.0, LeftRegime(3, 4 * 3600.0, 1e-7)),
    labels={"team": "shop"},
    updated_because=None,
    resolved_because=None,
    source=SOURCE,
    first_offset=40,
    last_offset=42,
)


def test_golden_event() -> None:
    record = encode_alert(EVENT, "detector")
    assert record.key == b"web-17"
    assert record.headers == [
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", EVENT.id.encode()),
        ("ce_source", b"/detector/detector"),
        ("ce_type", b"io.detector.alert.firing.v1"),
        ("ce_subject", b"web-17"),
        ("ce_time", b"2026-11-20T15:00:00Z"),
    ]
    assert json.loads(record.value) == {
        "kind": "anomaly",
        "alert_id": ALERT,
        "state": "firing",
        "detector": "hosts",
        "role": "champion",
        "version": "v1",
        "entity": "web-17",
        "severity": "warning",
        "reopened": 1,
        "labels": {"team": "shop"},
        "time": "2026-11-20T15:00:00Z",
        "expires_at": "2026-11-20T15:15:00Z",
        "start": "2026-11-20T14:59:00Z",
        "peak": "2026-11-20T15:00:00Z",
        "end": None,
        "last_suspicious": "2026-11-20T14:59:59.500000Z",
        "records": 2,
        "surprise_nats": 31.5,
        "p_value": 1e-6,
        "anomaly_score": 2.7,
        "log_likelihood": None,
        "return_period_s": 1987200.0,
        "return_period": "normally once in 23 days on this entity",
        "side": "too_likely",
        "member": "gmm on none",
        "explained": "2026-11-20T15:00:00Z",
        "reasons": [
            {
                "feature": "cpu",
                "actual": 0.97,
                "expected": 0.31,
                "std": 0.06,
                "nats": 12.5,
                "unit": "1",
                "valid_range": [None, 0.9],
                "stuck": None,
                "frequency": None,
            },
            {
                "feature": "memory",
                "actual": None,
                "expected": 0.5,
                "std": 0.1,
                "nats": 0.0,
                "unit": None,
                "valid_range": None,
                "stuck": None,
                "frequency": None,
            },
            {
                "feature": "load",
                "actual": 3.2,
                "expected": 3.1,
                "std": 0.1,
                "nats": 0.0,
                "unit": None,
                "valid_range": None,
                "stuck": {"value": 3.2, "since": "2026-11-20T14:20:00Z", "for_s": 2400.0, "after_s": 1800.0},
                "frequency": None,
            },
            {
                "feature": "status",
                "actual": "200",
                "expected": "200",
                "std": None,
                "nats": 9.0,
                "unit": None,
                "valid_range": None,
                "stuck": None,
                "frequency": {"of": "share", "value": "503", "actual": 0.27, "expected": 0.01, "records": 20},
            },
        ],
        "regime": {
            "kind": "state",
            "index": 5,
            "probability": 0.9996,
            "for_s": 30.0,
            "left": {"index": 3, "for_s": 14400.0, "transition_probability": 1e-7},
            "text": "left state 3, where it had been for 4 hours, by a transition of probability 1e-7; "
            "now in state 5",
        },
        "updated_because": None,
        "resolved_because": None,
        "incident_id": None,
        "origin": {"topic": "telemetry", "partition": 0, "first_offset": 40, "last_offset": 42},
    }


def test_resolved_event_has_an_id_of_its_own_and_an_end() -> None:
    resolved = replace(
        EVENT,
        id=event_id(ALERT, "resolved", 60),
        transition="resolved",
        end=1795186799.5,
        reasons=(),
        regime=None,
    )
    record = encode_alert(resolved, "detector")
    headers = dict(record.headers)
    assert headers["ce_type"] == b"io.detector.alert.resolved.v1"
    assert headers["ce_id"] != dict(encode_alert(EVENT, "detector").headers)["ce_id"]
    assert json.loads(record.value)["end"] == "2026-11-20T14:59:59.500000Z"
    assert json.loads(record.value)["regime"] is None


@pytest.mark.parametrize("entity", ["a", "ü 17", "x" * 256, 'tab\tnew\nline"', "\x7f\x80"])
def test_attributes_are_those_that_cloudevents_allows(entity: str) -> None:
    record = encode_alert(replace(EVENT, entity=entity), "my group")
    headers = dict(record.headers)
    assert len(headers) == len(record.headers)
    attributes = {
        name.removeprefix("ce_"): text.decode() for name, text in headers.items() if name[:3] == "ce_"
    }
    assert {"id", "source", "specversion", "type"} <= attributes.keys()
    for name, text in attributes.items():
        assert re.fullmatch("[a-z0-9]{1,20}", name)
        assert text
        assert not re.search("[\x00-\x1f\x7f-\x9f]", text)
    assert datetime.fromisoformat(attributes["time"]).tzinfo is not None
    assert re.fullmatch(r"[A-Za-z0-9/._~%-]+", attributes["source"])
    assert record.key.decode() == json.loads(record.value)["entity"] == entity


def test_event_with_any_number_of_labels_stays_small() -> None:
    long = replace(EVENT, labels={f"label-{i}": "\x01" * 5_000 for i in range(10)})
    assert json.loads(encode_alert(long, "g").value)["labels"]["label-3"] == "\x01" * 256
    many = replace(EVENT, entity="\x01" * 256, labels={f"label-{i}": "\x01" * 256 for i in range(100)})
    value = encode_alert(many, "g").value
    assert len(value) <= MAX_VALUE_BYTES
    assert (json.loads(value)["labels"], json.loads(value)["labels_left_out"]) == ({}, 100)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0.2 seconds"),
        (1.0, "1 second"),
        (45.0, "45 seconds"),
        (90.0, "1.5 minutes"),
        (3600.0, "1 hour"),
        (86_400.0, "1 day"),
        (9.96 * 86_400, "10 days"),
        (23.4 * 86_400, "23 days"),
        (2.26 * 365.25 * 86_400, "2.3 years"),
    ],
)
def test_return_period_in_words(seconds: float, text: str) -> None:
    assert return_period_text(seconds) == f"normally once in {text} on this entity"


@pytest.mark.parametrize("seconds", [1e12, float("inf"), float("nan")])
def test_return_period_beyond_what_is_known_is_no_number(seconds: float) -> None:
    assert return_period_text(seconds) == "normally less than once in 1,000 years on this entity"


@pytest.mark.parametrize(
    ("regime", "text"),
    [
        (Regime("component", 2, 0.971), "in component 2, with probability 0.97"),
        (Regime("class", 0, 1.0), "in class 0, with probability 1"),
        (Regime("state", 1, 0.99999, 0.0), "in state 1, with probability 0.99"),
        (
            Regime("state", 1, 0.5, 7200.0, LeftRegime(3, 60.0, 0.25)),
            "in state 1 for 2 hours, with probability 0.5",
        ),
        (
            Regime("state", 1, 0.5, 59.9999, LeftRegime(3, 90.0, 0.25)),
            "left state 3, where it had been for 1.5 minutes, by a transition of probability 0.25; "
            "now in state 1",
        ),
    ],
)
def test_regime_in_words_tells_a_state_that_was_left_within_the_episode(regime: Regime, text: str) -> None:
    assert regime_text(regime, episode_s=60.0) == text
