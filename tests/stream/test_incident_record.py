"""Tests for detector.stream.incident_record."""

import json
from dataclasses import replace

from detector.alerting.incident_event import MEMBERS_LISTED, IncidentMember
from detector.stream.alert_record import MAX_VALUE_BYTES
from detector.stream.incident_record import encode_incident
from tests.delivery.events import incident


def test_golden_incident() -> None:
    record = encode_incident(incident("resolved", 1795186800.0, entities=["a"], start_s=1795186740.0), "g")
    assert record.key == b"hosts"
    assert record.headers == [
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", b"incident-0-resolved-1795186800.0"),
        ("ce_source", b"/detector/g"),
        ("ce_type", b"io.detector.incident.resolved.v1"),
        ("ce_subject", b"hosts"),
        ("ce_time", b"2026-11-20T15:00:00Z"),
    ]
    assert json.loads(record.value) == {
        "kind": "incident",
        "alert_id": "incident-0",
        "state": "resolved",
        "detector": "hosts",
        "role": "champion",
        "version": "v1",
        "severity": "warning",
        "labels": {"team": "shop"},
        "time": "2026-11-20T15:00:00Z",
        "expires_at": None,
        "start": "2026-11-20T14:59:00Z",
        "end": "2026-11-20T15:00:00Z",
        "entities": 1,
        "firing": 0,
        "members": [
            {
                "entity": "a",
                "alert_id": "alert-a",
                "start": "2026-11-20T14:59:00Z",
                "feature": "cpu",
                "anomaly_score": 2.7,
                "firing": False,
            }
        ],
        "members_left_out": 0,
        "features": [{"feature": "cpu", "entities": 1}],
        "updated_because": None,
        "origin": {"topic": "telemetry", "partition": 0, "first_offset": 17},
    }


def test_long_names_leave_members_out_rather_than_grow_without_bound() -> None:
    long = tuple(
        IncidentMember(f"{i:02d}{'x' * 4000}", f"alert-{i}", 1.8e9, None, 2.7, firing=True)
        for i in range(MEMBERS_LISTED)
    )
    value = encode_incident(replace(incident("firing", 1.8e9), members=long, entities=312), "g").value
    said = json.loads(value)
    assert len(value) <= MAX_VALUE_BYTES
    assert len(said["members"]) + said["members_left_out"] == 312
    assert said["members"][0]["alert_id"] == "alert-0"
