"""Tests for detector.explain.alerts."""

from collections.abc import Sequence
from dataclasses import replace

from detector.alerting.event import AlertEvent
from detector.explain.alerts import Episode, overlapping, read_alerts
from tests.delivery.events import encoded, event
from tests.stream.records import NOW_S, raw_records

FIRST = event("firing", NOW_S, "db-1")
OVER = event("resolved", NOW_S + 300, "db-1", start_s=NOW_S)
AGAIN = replace(event("firing", NOW_S + 1500, "db-1", start_s=NOW_S), reopened=1)
MINE = event("firing", NOW_S + 2000, "web-1", episode=3)


def others(events: Sequence[AlertEvent]) -> list[Episode]:
    """Who else alarmed within ten minutes of an alert that comes after all these events."""
    values = [encoded(each).value for each in [*events, MINE]]
    read = read_alerts([raw_records(values)], MINE.alert_id)
    return overlapping(read, MINE.alert_id, MINE.time - 600, MINE.time + 600)


def test_an_alert_that_was_over_and_fired_again_is_on() -> None:
    [other] = others([FIRST, OVER, AGAIN])
    assert (other.entity, other.start_s, other.end_s) == ("db-1", NOW_S, None)


def test_an_alert_that_was_over_twice_ended_the_second_time() -> None:
    over_again = replace(event("resolved", NOW_S + 1800, "db-1", start_s=NOW_S), reopened=1)
    [other] = others([FIRST, OVER, AGAIN, over_again])
    assert other.end_s == NOW_S + 1800


def test_an_alert_that_is_over_stays_so_when_its_first_events_are_written_again() -> None:
    assert others([FIRST, OVER]) == []
    assert others([FIRST, OVER, FIRST]) == []
