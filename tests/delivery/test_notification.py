"""Tests for detector.delivery.notification and wording: what people and their tools are told."""

import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from detector.config.notify import OWN_LABELS
from detector.delivery.alert import Frequency, Reason, Regime, Stuck
from detector.delivery.notification import fingerprint, generator_url, labels_of
from detector.delivery.wording import (
    description,
    duration_text,
    expired_summary,
    firing_summary,
    resolved_summary,
)
from tests.delivery.events import absence, event, incident, read, read_incident

_, FIRING = read(event("firing", 1.8e9), 0)
_, RESOLVED = read(event("resolved", 1.8e9 + 720, start_s=1.8e9), 1)


def test_labels_are_few_and_never_numbers_of_the_moment() -> None:
    assert labels_of(FIRING) == {
        "alertname": "DetectorAnomaly",
        "detector": "hosts",
        "entity": "web-17",
        "severity": "warning",
        "team": "shop",
    }


def test_carried_labels_get_legal_names_and_hide_none_of_ours() -> None:
    carried = {"tags.region": "eu", "9lives": "x", "entity": "other", "empty": "", "": "y"}
    labels = labels_of(msgspec.structs.replace(FIRING, labels=carried))
    assert labels["tags_region"] == "eu"
    assert labels["_9lives"] == "x"
    assert labels["entity"] == "web-17"
    assert labels["_"] == "y"
    assert "empty" not in labels


def test_names_that_no_label_of_an_input_may_have_are_those_of_every_alert() -> None:
    assert set(labels_of(msgspec.structs.replace(FIRING, labels={}))) == set(OWN_LABELS)


def test_an_incident_has_no_entity_but_the_partition_where_it_began() -> None:
    _, alert = read_incident(incident("firing", 1.8e9), 0)
    assert labels_of(alert) == {
        "alertname": "DetectorIncident",
        "detector": "hosts",
        "partition": "telemetry/0",
        "severity": "warning",
        "team": "shop",
    }


def test_an_incident_is_told_by_its_members_and_what_they_share() -> None:
    _, alert = read_incident(incident("firing", 1.8e9), 0)
    assert firing_summary(alert) == (
        "5 entities of detector hosts at once: web-1, web-2, web-3 and 2 more; mostly cpu"
    )
    assert description(alert) == (
        "Detector hosts, version v1. What surprised most: cpu in 5. "
        "Members: web-1, web-2, web-3, web-4, web-5."
    )
    _, over = read_incident(incident("resolved", 1.8e9 + 720, start_s=1.8e9), 0)
    assert resolved_summary(over) == "5 entities of detector hosts: no longer unusual after 12 minutes"


def test_fingerprint_ignores_order_and_sees_every_character() -> None:
    assert fingerprint({"a": "1", "b": "2"}) == fingerprint({"b": "2", "a": "1"})
    assert fingerprint({"a": "1"}) != fingerprint({"a1": ""})
    # Of no label at all: the offset basis of 64-bit FNV-1a.
    assert fingerprint({}) == "cbf29ce484222325"


def test_links_are_quoted() -> None:
    alert = msgspec.structs.replace(FIRING, entity="a b/ü{detector}")
    assert (
        generator_url("https://x/{detector}?e={entity}", alert)
        == "https://x/hosts?e=a%20b%2F%C3%BC%7Bdetector%7D"
    )


def test_a_summary_names_the_range_that_was_left() -> None:
    ranges: list[tuple[float | None, float | None]] = [(0.0, None), (0.0, 1.0), (None, 1.5)]
    told = []
    for valid_range in ranges:
        reason = Reason("load", -2.0, 0.3, None, None, "s", valid_range)
        told.append(firing_summary(msgspec.structs.replace(FIRING, reasons=(reason,))))
    assert told == [
        "web-17: load -2 s, expected 0.3 s, valid from 0 s",
        "web-17: load -2 s, expected 0.3 s, valid from 0 s to 1 s",
        "web-17: load -2 s, expected 0.3 s, valid up to 1.5 s",
    ]


def test_a_summary_says_what_stays_and_since_when() -> None:
    since = datetime(2026, 11, 20, 3, 10, tzinfo=timezone(timedelta(hours=1)))
    for_41_minutes = Reason("pressure", 3.2, 3.2, 0.1, 0.0, "bar", stuck=Stuck(since, 2460.0, 1800.0))
    first = Reason("cpu", 1.0, 0.0, None, 50.0)
    assert firing_summary(msgspec.structs.replace(FIRING, reasons=(first, for_41_minutes))) == (
        "web-17: cpu 1, expected 0 (50.0 nats); "
        "pressure has been 3.2 bar since 02:10 UTC, for 41 minutes (stuck_after is 30 minutes)"
    )
    for_days = msgspec.structs.replace(
        for_41_minutes, stuck=Stuck(since, 3 * 86_400.0, 86_400.0), valid_range=(None, 3.0)
    )
    assert firing_summary(msgspec.structs.replace(FIRING, reasons=(for_days,))) == (
        "web-17: pressure has been 3.2 bar since 2026-11-20 02:10 UTC, for 3 days (stuck_after is 1 day), "
        "valid up to 3 bar"
    )


@pytest.mark.parametrize(
    ("often", "told"),
    [
        (Frequency("share", 0.27, 0.011, 20, "503"), "'503' in 27 % of 20 records, usually 1.1 %"),
        (Frequency("share", 0.5, 0.0004, 20), "uncommon texts in 50 % of 20 records, usually 0.04 %"),
        (Frequency("share", 0.0002, 0.5, 20, "200"), "'200' in under 1 % of 20 records, usually 50 %"),
        (Frequency("share", 0.4, 0.05, 20, 1.0), "1 in 40 % of 20 records, usually 5 %"),
        (Frequency("mean", 2.25, 0.1, 50), "2.25 in the mean of 50 records, usually 0.1"),
    ],
)
def test_a_summary_says_how_often_a_value_came_even_if_the_record_has_none(
    often: Frequency, told: str
) -> None:
    reason = Reason("status", None, "200", None, 14.24, frequency=often)
    alert = msgspec.structs.replace(FIRING, reasons=(reason,))
    assert firing_summary(alert) == f"web-17: status {told} (14.2 nats)"


def test_a_summary_of_frequencies_says_what_is_now_where_the_record_tells_more() -> None:
    often = Frequency("mean", 1.03, 0.02, 20)
    reasons = (
        Reason("path", "/wp-admin", "/", None, 9.0, frequency=Frequency("share", 0.1, 0.001, 20)),
        Reason("size", 500.0, 0.02, 0.1, 9.0, "By", frequency=often),
        Reason("errors", 500.0, 0.02, 0.1, 9.0, valid_range=(0.0, 100.0), frequency=often),
    )
    assert firing_summary(msgspec.structs.replace(FIRING, reasons=reasons)) == (
        "web-17: path uncommon texts in 10 % of 20 records, now '/wp-admin', usually 0.1 % (9.0 nats); "
        "size 1.03 in the mean of 20 records, now 500 By, usually 0.02 By (9.0 nats); "
        "errors 500, expected 0.02 ± 0.1 (9.0 nats), valid from 0 to 100"
    )


def test_a_summary_says_what_is_and_what_was_expected() -> None:
    reasons = (
        Reason("cpu", 0.97, 0.31, 0.06, 12.4, "1"),
        Reason("rps", 1234567.0, 120.5, 9.0, 8.0, "1/s"),
        Reason("gone", None, 1.0, 1.0, 0.0),
        Reason("method", "TRACE", "GET", None, 4.0),
        Reason("fourth", 1.0, 1.0, 1.0, 1.0),
    )
    alert = msgspec.structs.replace(FIRING, reasons=reasons)
    assert firing_summary(alert) == (
        "web-17: cpu 0.97, expected 0.31 ± 0.06 (12.4 nats); "
        "rps 1.235e+06 1/s, expected 120.5 ± 9 1/s (8.0 nats); "
        "method 'TRACE', expected 'GET' (4.0 nats)"
    )


def test_a_summary_leaves_out_what_is_not_remarkable_beside_the_first() -> None:
    def told(*nats: float | None, **changes: Any) -> str:
        reasons = tuple(Reason(f"f{i}", 1.0, 0.0, None, each) for i, each in enumerate(nats))
        summary = firing_summary(msgspec.structs.replace(FIRING, reasons=reasons, **changes))
        return " ".join(re.findall(r"f\d", summary))

    assert told(364.5, 36.5, 36.4) == "f0 f1"
    assert told(15.0, 2.0, 1.9) == "f0 f1"
    # Beyond all numbers, which JSON has no word for.
    assert told(None, None, 3.0, 1.0) == "f0 f1 f2"
    assert told(0.5, 0.4) == "f0"
    # Of what is too typical all that is listed is close to what was expected.
    assert told(-1.0, -0.9, side="too_likely") == "f0 f1"


def test_what_is_out_of_its_range_is_told_however_usual_it_is() -> None:
    reasons = (Reason("cpu", 1.0, 0.0, None, 50.0), Reason("load", -1.0, 0.0, None, 0.1, None, (0.0, None)))
    summary = firing_summary(msgspec.structs.replace(FIRING, reasons=reasons))
    assert "load -1, expected 0 (0.1 nats), valid from 0" in summary


def test_a_summary_without_reasons_still_says_something() -> None:
    alert = msgspec.structs.replace(FIRING, reasons=())
    assert firing_summary(alert) == "web-17: improbable under detector hosts"
    assert "more typical than normal" in firing_summary(msgspec.structs.replace(alert, side="too_likely"))


def test_the_end_says_how_long_it_was() -> None:
    assert resolved_summary(RESOLVED) == "web-17: no longer unusual after 12 minutes"
    assert expired_summary(FIRING, 86_400.0) == (
        "web-17: no news for 1 day, taken to be over; does detector hosts still run?"
    )


def test_a_description_adds_what_else_is_known() -> None:
    alert = msgspec.structs.replace(FIRING, regime=Regime("left state 3"))
    assert description(alert) == (
        "Detector hosts, version v1. At its peak normally once in 23 days on this entity. "
        "Most improbable to gmm on none. "
        "The entity: left state 3. 5 records since it began."
    )


def test_durations() -> None:
    seconds = [0, 1, 60, 90, 150, 7200, 86_400, timedelta(days=3).total_seconds()]
    assert [duration_text(s) for s in seconds] == [
        "0 seconds",
        "1 second",
        "1 minute",
        "90 seconds",
        "2 minutes",
        "2 hours",
        "1 day",
        "3 days",
    ]


def test_a_summary_belongs_to_its_event() -> None:
    other = read(replace(event("firing", 1.8e9), entity="db-1"), 0)[1]
    assert firing_summary(other).startswith("db-1: ")


def test_absence_says_for_how_long_and_how_often_records_came() -> None:
    _, fired = absence("firing", 1.8e9 + 250.0)
    _, over = absence("resolved", 1.8e9 + 720.0)
    assert firing_summary(fired) == "web-17: nothing for 4 minutes, usually one record in 1 minute"
    assert description(fired) == "Input telegraf."
    assert resolved_summary(over) == "web-17: records come again after 12 minutes"
    _, gone = absence("resolved", 1.8e9 + 7 * 86_400.0, resolved_because="expired")
    assert resolved_summary(gone) == "web-17: gone for 7 days, no longer missed"
    assert "does the detector still run?" in expired_summary(fired, 3600.0)
    assert labels_of(fired) == {
        "alertname": "DetectorAbsence",
        "entity": "web-17",
        "input": "telegraf",
        "severity": "warning",
        "team": "shop",
    }


def test_absence_of_many_names_some_of_them() -> None:
    names = tuple(f"web-{i:02d}" for i in range(25))
    _, fired = absence("firing", 1.8e9 + 250.0, "*", entities=names, absent=30, labels={})
    start = "30 of 40 entities of input telegraf (web-00, web-01, web-02 and 27 more)"
    assert firing_summary(fired) == f"{start}: nothing for 4 minutes, usually one record in 1 minute"
    assert description(fired).endswith("web-18, web-19 and 10 more.")
    assert labels_of(fired)["partition"] == "telemetry/0"
    _, silent = absence("firing", 1.8e9 + 250.0, "*", entities=names, absent=40)
    assert firing_summary(silent).startswith("all 40 entities of input telegraf: ")
    _, lost = absence(
        "firing",
        1.8e9 + 250.0,
        "*",
        entities=("a", "b"),
        absent=2,
        kind="vanished_feature",
        features=("cpu",),
    )
    assert firing_summary(lost) == "2 of 40 entities of input telegraf (a, b): no cpu any more"


def test_vanished_feature_is_named() -> None:
    _, fired = absence("firing", 1.8e9 + 600.0, kind="vanished_feature", features=("cpu",))
    _, over = absence("resolved", 1.8e9 + 720.0, kind="vanished_feature", features=("cpu",))
    assert firing_summary(fired) == "web-17: no cpu any more"
    assert resolved_summary(over) == "web-17: cpu is there again after 12 minutes"
    assert labels_of(fired)["feature"] == "cpu"
