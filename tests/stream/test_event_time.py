"""Tests for detector.stream.event_time."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.stream.event_time import EARLIEST_S, Time, believed, to_datetimes, to_seconds

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
NOON_S = NOON.timestamp()


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (NOON_S, NOON_S),
        (int(NOON_S), NOON_S),
        (NOON_S * 1e3, NOON_S),
        (NOON_S + 0.25, NOON_S + 0.25),
        (NOON, NOON_S),
        (NOON.astimezone(timezone(timedelta(hours=-5))), NOON_S),
        (NOON.replace(tzinfo=None), NOON_S),
        (99_999_999_999, 99_999_999_999.0),
        (100_000_000_000, 100_000_000.0),
    ],
)
def test_every_form_of_a_time_means_the_same_alone_and_among_others(time: Time, seconds: float) -> None:
    assert to_seconds([time]).tolist() == [seconds]
    assert to_seconds([time, time]).tolist() == [seconds, seconds]
    assert to_seconds([NOON, 5, time, None, NOON.replace(tzinfo=None)])[2] == seconds


def test_no_time_is_nan_and_not_the_epoch() -> None:
    assert np.isnan(to_seconds([None])).all()
    assert np.isnan(to_seconds([None, NOON])).tolist() == [True, False]


def test_integer_too_large_for_a_double_is_out_of_every_range() -> None:
    cases: list[list[Time]] = [[10**400], [10**400, NOON]]
    for times in cases:
        assert not believed(to_seconds(times), NOON_S, 1e12)[0]


def test_range_of_believed_times_is_closed_at_both_ends() -> None:
    edges = np.array([EARLIEST_S, NOON_S + 60.0])
    assert believed(edges, NOON_S, 60.0).all()
    assert not believed(edges + np.array([-1e-3, 1e-3]), NOON_S, 60.0).any()
    assert not believed(np.array([np.nan, np.inf, -np.inf]), NOON_S, 60.0).any()


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_datetimes_survive_the_way_to_seconds_and_back(time: datetime) -> None:
    assert to_datetimes(to_seconds([time])) == [time]
