"""Tests for detector.stream.maintenance: which records lie in which windows."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from detector.alerting.entity_patterns import EntityPatterns
from detector.batch import Batch, OperatorRule
from detector.models.sequences import runs_of
from detector.stream.maintenance import Maintenance, Recurring, Selector, Window
from tests.made import batch

BERLIN = ZoneInfo("Europe/Berlin")
ALL = Selector()
M, D = int(OperatorRule.MAINTENANCE), int(OperatorRule.DEPLOY)


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def records(times: list[float], entities: list[str] | None = None) -> Batch:
    return batch(np.zeros((len(times), 1)), entity=entities, time=np.array(times))


def inside(maintenance: Maintenance, of: Batch, detector: str = "hosts") -> list[int] | None:
    names = sorted(set(of.entity))
    slots = np.array([names.index(entity) for entity in of.entity])
    order = np.argsort(slots, kind="stable")
    found = maintenance.inside(detector, of, order, runs_of(slots[order]))
    return None if found is None else found.tolist()


def test_a_window_holds_its_beginning_and_not_its_end() -> None:
    maintenance = Maintenance([Window(ALL, 100.0, 200.0)])
    assert inside(maintenance, records([99.9, 100.0, 150.0, 199.9, 200.0])) == [0, M, M, M, 0]
    assert inside(maintenance, records([50.0, 99.9])) is None
    assert inside(maintenance, records([200.0, 300.0])) is None
    # Around it, but not in it.
    assert inside(maintenance, records([50.0, 250.0])) is None


def test_entities_and_detectors_are_selected() -> None:
    some = Selector(EntityPatterns(("web-*", "db-1")), frozenset({"hosts"}))
    maintenance = Maintenance([Window(some, 0.0, 10.0, "deploy")])
    of = records([5.0] * 5, ["db-1", "web-2", "db-2", "web-1", "web-2"])
    assert inside(maintenance, of) == [D, D, 0, D, D]
    assert inside(maintenance, of, "services") is None
    assert inside(maintenance, records([5.0], ["db-2"])) is None


def test_of_two_windows_the_deploy_is_told() -> None:
    windows = [Window(ALL, 0.0, 10.0, "deploy"), Window(ALL, 5.0, 20.0)]
    assert inside(Maintenance(windows), records([1.0, 7.0, 15.0])) == [D, D, M]
    assert inside(Maintenance(windows[::-1]), records([1.0, 7.0, 15.0])) == [D, D, M]


def test_windows_that_are_announced_meanwhile_count_from_then_on() -> None:
    known: list[tuple[Window, ...]] = [()]
    maintenance = Maintenance(announced=lambda: known[0])
    assert inside(maintenance, records([5.0])) is None
    known[0] = (Window(ALL, 0.0, 10.0),)
    assert inside(maintenance, records([5.0])) == [M]
    known[0] = ()
    assert inside(maintenance, records([5.0])) is None


def by_hand(recurring: Recurring, time_s: float) -> bool:
    """Ask the wall clock of the zone: minutes of the week, where clocks are neither put back nor forward."""
    local = datetime.fromtimestamp(time_s, recurring.zone)
    minute = 60 * local.hour + local.minute
    begin, end = recurring.from_minute, recurring.until_minute
    if end > begin:
        return local.weekday() in recurring.days and begin <= minute < end
    today = local.weekday() in recurring.days and minute >= begin
    return today or ((local.weekday() - 1) % 7 in recurring.days and minute < end)


@pytest.mark.parametrize(
    ("days", "begin", "end"),
    [({5, 6}, 120, 240), ({4}, 22 * 60, 4 * 60), (set(range(7)), 0, 1440), ({6}, 23 * 60 + 30, 23 * 60)],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_weekly_windows_agree_with_the_wall_clock(days: set[int], begin: int, end: int, zone: str) -> None:
    recurring = Recurring(ALL, frozenset(days), begin, end, ZoneInfo(zone))
    start = at("2026-11-16T00:00:00+00:00")
    times = [start + 600.0 * i for i in range(14 * 144)]
    maintenance = Maintenance(recurring=[recurring])
    expected = [M if by_hand(recurring, time) else 0 for time in times]
    assert inside(maintenance, records(times)) == expected
    # One record at a time, so that each day is looked at by itself.
    alone = [inside(maintenance, records([time])) for time in times[::37]]
    assert [(found or [0])[0] for found in alone] == expected[::37]


def spans(recurring: Recurring, first: str, last: str) -> list[tuple[str, str]]:
    """The windows between two times, as UTC text, found minute by minute."""
    maintenance, found = Maintenance(recurring=[recurring]), []
    times = [at(first) + 60.0 * i for i in range(int((at(last) - at(first)) / 60))]
    marks = inside(maintenance, records(times)) or [0] * len(times)
    edges = np.flatnonzero(np.diff([0, *marks, 0]))
    for begin, end in edges.reshape(-1, 2).tolist():
        texts = (datetime.fromtimestamp(times[0], UTC) + timedelta(minutes=m) for m in (begin, end))
        found.append(tuple(text.strftime("%d %H:%M") for text in texts))
    return found  # type: ignore[return-value]


def test_local_times_move_with_daylight_saving() -> None:
    nightly = Recurring(ALL, frozenset(range(7)), 60, 4 * 60, BERLIN)
    # Clocks go forward on 29 March 2026 and back on 25 October 2026.
    assert spans(nightly, "2026-03-27T12:00Z", "2026-03-30T12:00Z") == [
        ("28 00:00", "28 03:00"),
        ("29 00:00", "29 02:00"),
        ("29 23:00", "30 02:00"),
    ]
    assert spans(nightly, "2026-10-24T12:00Z", "2026-10-26T12:00Z") == [
        ("24 23:00", "25 03:00"),
        ("26 00:00", "26 03:00"),
    ]


def test_where_a_local_time_means_two_instants_or_none_the_window_is_the_longer_one() -> None:
    half_past_two = Recurring(ALL, frozenset(range(7)), 150, 160, BERLIN)
    assert spans(half_past_two, "2026-10-24T20:00Z", "2026-10-25T20:00Z") == [("25 00:30", "25 01:40")]
    assert spans(half_past_two, "2026-03-28T20:00Z", "2026-03-29T20:00Z") == [("29 00:30", "29 01:40")]


def test_a_stray_record_of_long_ago_costs_no_calendar_of_all_the_years_between() -> None:
    class Counting(Recurring):
        days_asked = 0

        def near(self, utc_day: int):  # type: ignore[no-untyped-def]
            type(self).days_asked += 1
            return super().near(utc_day)

    own = Counting(ALL, frozenset({0}), 0, 60, UTC)
    assert inside(Maintenance(recurring=[own]), records([at("2001-01-01T00:30Z"), 1.8e9])) == [M, 0]
    assert Counting.days_asked == 2


def test_silence_is_excused_inside_a_window_of_some_detector_of_the_input() -> None:
    some = Selector(EntityPatterns(("web-*",)), frozenset({"hosts"}))
    maintenance = Maintenance([Window(some, 0.0, 10.0)])
    names, time = ["web-1", "web-2", "db-1"], np.array([5.0, 15.0, 5.0])
    nothing = -np.inf
    assert maintenance.excused_until(["other", "hosts"], names, time).tolist() == [10.0, nothing, nothing]
    assert (maintenance.excused_until(["other"], names, time) == nothing).all()
    assert maintenance.excused_until(["hosts"], [], np.zeros(0)).shape == (0,)
    own = np.array([1, 0, 2])
    assert maintenance.excused_until(["hosts"], names, time, own).tolist() == [10.0, nothing, nothing]
