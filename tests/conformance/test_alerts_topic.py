"""Every kind of event that is written to the alerts topic, through everybody who reads that topic."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from detector.alerting.absence_event import MANY_ENTITIES, AbsenceEvent
from detector.alerting.event import FeatureReason, Frequency, Stuck
from detector.delivery.alert import decode_alert
from detector.explain.alerts import Event, read_alerts
from detector.models.contract import LeftRegime, Regime
from detector.stream import told_event
from detector.stream.absence_record import encode_absence
from detector.stream.alert_record import AlertRecord, encode_alert, without_details
from detector.stream.incident_record import encode_incident
from tests.delivery.events import event, incident
from tests.stream.records import NOW_S, raw_records
from tests.web.made_up import absence_of

EXPIRES_AT = NOW_S + 900.0

FIRING = replace(event("firing", NOW_S), expires_at=EXPIRES_AT)
RICH = replace(
    FIRING,
    transition="updated",
    updated_because="severity",
    severity="critical",
    reopened=2,
    incident_id="an-incident",
    side="too_likely",
    regime=Regime("state", 1, 0.5, 59.5, LeftRegime(3, 90.0, 0.25)),
    reasons=(
        FeatureReason("service", "ssh", None, None, 3.5),
        FeatureReason(
            "load", 7.0, 1.0, 0.5, 2.5, "1/s", (None, 5.0), Stuck(7.0, NOW_S - 600.0, 600.0, 300.0)
        ),
        FeatureReason("status", "200", "200", None, 2.0, frequency=Frequency("share", "503", 0.25, 0.01, 20)),
        FeatureReason("errors", 3.0, 0.5, 0.5, 1.5, frequency=Frequency("mean", None, 1.5, 0.5, 20)),
    ),
)
ABSENT = absence_of("web-3")
MANY = replace(
    ABSENT, entity=MANY_ENTITIES, entities=("web-1", "web-2"), absent=70, alive=80, usual_interval_s=None
)
VANISHED = replace(ABSENT, kind="vanished_feature", entities=(), features=("cpu",), usual_interval_s=None)


def over(absence: AbsenceEvent) -> AbsenceEvent:
    return replace(absence, transition="resolved", end=NOW_S, resolved_because="returned")


def short(record: AlertRecord) -> AlertRecord:
    return record._replace(value=without_details(record.value))


WRITTEN = {
    "alert": encode_alert(FIRING, "g"),
    "alert with everything": encode_alert(RICH, "g"),
    "alert that nothing is as improbable as": encode_alert(
        replace(FIRING, log_likelihood=-float("inf"), return_period_s=float("inf")), "g"
    ),
    "alert without details": short(encode_alert(RICH, "g")),
    "incident without details": short(
        encode_incident(replace(incident("firing", NOW_S), expires_at=EXPIRES_AT), "g")
    ),
    "absence of many without details": short(encode_absence(MANY, "g")),
    "alert that is over": encode_alert(event("resolved", NOW_S), "g"),
    "alert that was muted": encode_alert(replace(event("resolved", NOW_S), resolved_because="muted"), "g"),
    "incident": encode_incident(replace(incident("firing", NOW_S), expires_at=EXPIRES_AT), "g"),
    "incident that is over": encode_incident(incident("resolved", NOW_S), "g"),
    "absence": encode_absence(ABSENT, "g"),
    "absence that is over": encode_absence(over(ABSENT), "g"),
    "absence of many": encode_absence(MANY, "g"),
    "vanished feature": encode_absence(VANISHED, "g"),
    "vanished feature that is back": encode_absence(over(VANISHED), "g"),
}


def explained(value: bytes) -> Any:
    """Return the event as ``detector explain`` keeps it."""
    alert_id = msgspec.json.decode(value)["alert_id"]
    [told] = read_alerts([raw_records([value])], alert_id).told
    return told


READERS: dict[str, Callable[[bytes], Any]] = {
    "recall": told_event.decode,
    "notify": decode_alert,
    "explain": explained,
}


def check_agrees(written: Any, read: Any, where: str) -> None:
    """Check that what is written of the fields that a reader knows is what it read."""
    if isinstance(read, dict) and isinstance(written, dict):
        for name in read.keys() & written.keys():
            check_agrees(written[name], read[name], f"{where}.{name}")
    elif isinstance(read, list | tuple):
        assert len(read) == len(written), where
        for one_written, one_read in zip(written, read, strict=True):
            check_agrees(one_written, one_read, where)
    else:
        assert read == written, where


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_is_what_every_reader_reads(name: str, reader: str) -> None:
    value = WRITTEN[name].value
    written, read = msgspec.json.decode(value), READERS[reader](value)
    if reader == "recall" and written["kind"] == "vanished_feature":
        # A feature that is still gone is noticed again, by itself.
        assert read is None
        return
    assert {"kind", "alert_id", "state", "severity", "time", "start"} <= written.keys()
    check_agrees(written, msgspec.to_builtins(read), name)


@pytest.mark.parametrize("name", WRITTEN)
def test_of_what_is_written_every_field_is_known_to_a_reader(name: str) -> None:
    known = {
        field.name for reader in (told_event.ToldEvent, Event) for field in msgspec.structs.fields(reader)
    }
    assert msgspec.json.decode(WRITTEN[name].value).keys() <= known
