"""Tests for detector.training.offsets: what clocks show agrees with the standard library, row by row."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.models.seasonal import BINS_PER_DAY, season_of
from detector.training.offsets import local_time

ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",  # half hours, and once a change at a minute past midnight
    "Australia/Lord_Howe",  # a change of clocks by half an hour
    "Asia/Kathmandu",  # 5:45 ahead, always
    "Africa/Casablanca",  # two changes more, around Ramadan
    "Pacific/Apia",  # a day that was left out
    "America/Sao_Paulo",  # changes at midnight, given up in 2019
)
YEARS = (datetime(2009, 1, 1, tzinfo=UTC).timestamp(), datetime(2030, 1, 1, tzinfo=UTC).timestamp())


def season_by_hand(time: float, zone: ZoneInfo) -> int:
    clock = datetime.fromtimestamp(time, zone)
    return 2 * clock.hour + clock.minute // 30 + BINS_PER_DAY * (clock.weekday() >= 5)


@pytest.mark.parametrize("name", ZONES)
def test_around_every_change_the_bins_are_those_of_the_clock(name: str) -> None:
    local, zone = local_time(name), ZoneInfo(name)
    changes = local.from_s[(local.from_s > YEARS[0]) & (local.from_s < YEARS[1])]
    near = (changes[:, None] + 900.0 * np.arange(-12, 13)).ravel()
    last_seconds = changes - 1
    time = np.concatenate([np.arange(*YEARS, 86_400 * 10 + 1234.0), near, last_seconds])
    assert season_of(local.of(time)).tolist() == [season_by_hand(t, zone) for t in time.tolist()]


@settings(deadline=None)
@given(st.sampled_from(ZONES), st.lists(st.integers(0, int(YEARS[1])), max_size=50))
def test_at_any_time_the_bins_are_those_of_the_clock(name: str, seconds: list[int]) -> None:
    time, zone = np.array(seconds, dtype=np.float64), ZoneInfo(name)
    assert season_of(local_time(name).of(time)).tolist() == [season_by_hand(t, zone) for t in seconds]


def test_the_repeated_hour_comes_twice_and_the_skipped_one_never() -> None:
    local = local_time("Europe/Berlin")
    back = datetime(2026, 10, 25, tzinfo=UTC).timestamp() + 1800.0 * np.arange(-1.0, 4.0)
    forward = datetime(2026, 3, 29, tzinfo=UTC).timestamp() + 1800.0 * np.arange(4.0)
    assert (season_of(local.of(back)) % BINS_PER_DAY / 2).tolist() == [1.5, 2.0, 2.5, 2.0, 2.5]
    assert (season_of(local.of(forward)) % BINS_PER_DAY / 2).tolist() == [1.0, 1.5, 3.0, 3.5]


def test_utc_needs_no_offset() -> None:
    assert local_time("UTC").arrays() == {}
