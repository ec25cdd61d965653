"""Tests for detector.bundles.part_of_week."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from detector.bundles.part_of_week import part_of_week, weekend_share
from detector.bundles.store import Bundle
from detector.training.job import TrainingPlan, train
from tests.made import batch

DAY_S = 86400.0
MONDAY_S = datetime(2026, 11, 16, tzinfo=UTC).timestamp()


def trained(days: float, end_s: float) -> Bundle:
    time = np.arange(end_s - days * DAY_S, end_s, 3600.0)
    rows = replace(batch(np.random.default_rng(1).normal(size=(len(time), 1))), time=time)
    return train(rows, TrainingPlan("hosts", "gmm", "none", options={"n_components": 1}), now_s=0.0)


def test_the_weekend_is_saturday_and_sunday() -> None:
    week = np.array([MONDAY_S + DAY_S * (day + 0.5) for day in range(7)])
    assert [weekend_share(week[[day]]) for day in range(7)] == [0, 0, 0, 0, 0, 1, 1]
    assert weekend_share(week) == pytest.approx(2 / 7)


@pytest.mark.parametrize("hour", [-9, 0, 8])
def test_a_week_that_ends_on_a_monday_is_judged_by_its_weekend_in_any_time_zone(hour: int) -> None:
    said = part_of_week(trained(7, MONDAY_S + hour * 3600))
    assert said is not None
    assert said.startswith("of weekdays hardly a record is held out")


def test_a_week_that_ends_on_a_thursday_has_no_weekend_to_be_judged_by() -> None:
    said = part_of_week(trained(7, MONDAY_S + 3 * DAY_S))
    assert said is not None
    assert said.startswith("of weekends hardly a record is held out")


@pytest.mark.parametrize(("days", "end"), [(14, 0), (14, 2), (28, 0), (28, 3), (28, 5), (4, 4)])
def test_what_was_learnt_is_also_judged_by_or_was_never_learnt(days: float, end: int) -> None:
    assert part_of_week(trained(days, MONDAY_S + end * DAY_S)) is None
