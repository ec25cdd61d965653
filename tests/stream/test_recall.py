"""Tests for detector.stream.recall."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from detector.alerting.event import AlertEvent, FeatureReason, Stuck
from detector.batch import Source
from detector.models.contract import LeftRegime, Regime
from detector.stream.absence_record import encode_absence
from detector.stream.alert_record import AlertRecord, encode_alert
from detector.stream.incident_record import encode_incident
from detector.stream.recall import TIMEOUT_S, Recalled, recall
from detector.stream.told_event import ToldEvent, decode
from tests.delivery.events import TELEMETRY, event, incident
from tests.stream.records import NOW_S, raw_records
from tests.web.made_up import absence_of

LASTS_S = 900.0


def firing(time_s: float = NOW_S, offset: int = 7, **changes: Any) -> AlertEvent:
    fired = event("firing", time_s)
    return replace(fired, expires_at=time_s + LASTS_S, last_offset=offset, **changes)


def read(
    records: Sequence[AlertRecord], *, written_s: float = NOW_S, sources: Sequence[Source] = (TELEMETRY,)
) -> Recalled:
    values: list[bytes | None] = [record.value for record in records]
    return recall([raw_records(values, timestamp_s=written_s)], sources, NOW_S, lambda: None)


def written(*events: AlertEvent) -> list[AlertRecord]:
    return [encode_alert(event, "detector") for event in events]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"severity": "critical", "reopened": 2, "side": "too_likely", "incident_id": "i", "labels": {}},
        {"regime": Regime("state", 1, 0.5, 59.5, LeftRegime(3, 90.0, 0.25))},
        {
            "reasons": (
                FeatureReason("f", "a", None, None, 3.5, "1/s", (None, 0.5)),
                FeatureReason("g", 1.0, 1.0, 1.0, 1.0, stuck=Stuck(1.0, NOW_S - 1800.5, 1800.5, 1800.0)),
            )
        },
        {"p_value": 1e-300, "log_likelihood": -float("inf"), "return_period_s": float("inf")},
        {"transition": "updated", "updated_because": "peak"},
    ],
)
def test_an_event_is_read_as_it_was_written(changes: dict[str, Any]) -> None:
    fired = firing(**changes)
    [told] = read(written(fired)).alerts
    assert replace(told.newest, id=fired.id) == fired
    assert (told.is_open, told.fired_at) == (True, fired.time)


def test_the_newest_event_of_an_entity_counts_whatever_is_written_behind_it() -> None:
    newest = firing(NOW_S + 60.0, 9, transition="updated", updated_because="keep_alive")
    [told] = read(written(firing(), newest, firing())).alerts
    assert told.newest.last_offset == 9
    # It fired when the first of them said so.
    assert told.fired_at == NOW_S
    other = replace(firing(NOW_S + 90.0, 12), alert_id="another")
    assert [told.newest.alert_id for told in read(written(newest, other)).alerts] == ["another"]


def test_an_alert_of_which_the_firing_is_not_held_fires_since_its_start() -> None:
    lasting = firing(NOW_S, 9, transition="updated", updated_because="keep_alive", start=NOW_S - 5000.0)
    assert read(written(lasting)).alerts[0].fired_at == NOW_S - 5000.0


def test_what_is_over_or_expired_is_not_open_but_decided() -> None:
    over = replace(event("resolved", NOW_S + 60.0), last_offset=9)
    [told] = read(written(firing(), over)).alerts
    assert (told.is_open, told.newest.last_offset) == (False, 9)
    for age_s, is_open in ((LASTS_S - 1.0, True), (LASTS_S, False)):
        recalled = read(written(firing()), written_s=NOW_S - age_s)
        assert [told.is_open for told in recalled.alerts] == [is_open]
        assert recalled.open == is_open


def test_of_other_partitions_of_challengers_and_of_what_is_no_event_nothing_is_told() -> None:
    records = written(firing(role="challenger"), firing(source=Source("telemetry", 1)))
    junk = [AlertRecord(b"", value, []) for value in (b"", b"nonsense", b"\xff", b"[" * 100_000, b"{}")]
    recalled = read([*records, *junk])
    assert (recalled.alerts, recalled.incidents, recalled.absences) == ([], [], [])


def test_incidents_and_absences_that_go_on_are_read_as_they_were_written() -> None:
    many = replace(incident("updated", NOW_S), expires_at=NOW_S + LASTS_S)
    away = replace(absence_of("web-3"), source=TELEMETRY, told=3, transition="updated", time=NOW_S)
    records = [encode_incident(many, "detector"), encode_absence(away, "detector")]
    recalled = read(records)
    assert [replace(each, id=many.id) for each in recalled.incidents] == [many]
    assert recalled.absences == [away]
    assert recalled.open == 2
    over = replace(many, transition="resolved", time=NOW_S + 1.0, expires_at=None)
    back = replace(away, transition="resolved", time=NOW_S + 1.0)
    assert read([*records, encode_incident(over, "detector"), encode_absence(back, "detector")]).open == 0


def test_reading_back_takes_no_longer_than_allowed(caplog: pytest.LogCaptureFixture) -> None:
    times = iter([0.0, 1.0, TIMEOUT_S + 1.0])
    [record] = written(firing())
    polls = (raw_records([record.value]) for _ in iter(int, 1))
    recalled = recall(polls, [TELEMETRY], NOW_S, lambda: None, lambda: next(times))
    assert recalled.open == 1
    assert "not read back" in caplog.text


def test_of_many_events_of_an_entity_only_the_newest_is_decoded_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole: list[bytes] = []

    def counted(value: bytes) -> ToldEvent | None:
        whole.append(value)
        return decode(value)

    monkeypatch.setattr("detector.stream.recall.decode", counted)
    elsewhere = firing(NOW_S, 8, source=Source("telemetry", 1))
    updates = [firing(NOW_S + i, 9 + i, transition="updated", updated_because="peak") for i in range(20)]
    records = written(firing(), elsewhere, *updates)
    [told] = read(records).alerts
    assert whole == [records[-1].value]
    assert (told.newest.last_offset, told.fired_at) == (28, NOW_S)


def test_a_newest_event_that_is_not_whole_tells_nothing() -> None:
    [whole] = written(firing())
    assert whole.value is not None
    cut = msgspec.json.encode(msgspec.json.decode(whole.value) | {"severity": "shrill"})
    assert read([AlertRecord(b"", cut, [])]).alerts == []
