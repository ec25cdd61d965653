"""Tests for detector.alerting.stuck: for how long values have been exactly the same."""

from collections.abc import Sequence

import numpy as np
import pytest

from detector.alerting.event import Explained, FeatureReason, Stuck
from detector.alerting.stuck import StuckRules
from detector.batch import FloatArray

NAN = float("nan")


def rules_of(*after_s: float) -> StuckRules:
    made = StuckRules.of(after_s)
    assert made is not None
    return made


def stuck_at(values: Sequence[float], time: Sequence[float], after_s: float = 600.0) -> list[int]:
    """Return at which records one entity, which usually sends once a minute, has a stuck value."""
    rules = rules_of(after_s)
    x = np.array(values)[:, None]
    found = rules.follow(rules.initial_state(1), x, np.array(time), np.array([len(x)]), 60.0)
    return np.flatnonzero(found.stuck[:, 0]).tolist()


def minutes(n: int) -> list[float]:
    return [1.8e9 + 60.0 * i for i in range(n)]


def test_without_a_rule_there_are_none() -> None:
    assert StuckRules.of([np.inf, np.inf]) is None
    assert rules_of(np.inf, 60.0, np.inf, 30.0).columns.tolist() == [1, 3]


def test_a_value_is_stuck_once_it_has_been_the_same_for_long_enough_until_it_moves() -> None:
    values = [1.0, 2.0, *[3.2] * 14, 3.3, 3.2]
    assert stuck_at(values, minutes(18)) == [12, 13, 14, 15]


def test_a_value_that_all_but_stays_is_not_stuck() -> None:
    values = [3.2, np.nextafter(3.2, 4.0)] * 20
    assert stuck_at(values, minutes(40)) == []


def test_two_records_show_nothing_however_far_apart_they_usually_are() -> None:
    assert stuck_at([1.0] * 5, [0.0, 3600.0, 7200.0, 10_800.0, 14_400.0]) == [2, 3, 4]
    assert stuck_at([2.0, 3.0, 1.0, 1.0], [0.0, 3600.0, 7200.0, 10_800.0]) == []


def test_a_missing_value_neither_ends_a_run_nor_is_stuck_itself() -> None:
    values = [3.2] * 15
    values[5] = values[6] = values[12] = NAN
    assert stuck_at(values, minutes(15)) == [10, 11, 13, 14]


def test_while_a_value_is_missing_for_long_no_time_passes() -> None:
    values = [3.2] * 6 + [NAN] * 60 + [3.2] * 6
    # Five minutes before, a usual one for the hour without, and four more.
    assert stuck_at(values, minutes(72)) == [70, 71]


def test_a_feature_that_is_in_every_tenth_record_has_gaps_of_its_own() -> None:
    values = [NAN] * 100
    values[::10] = [3.2] * 10
    assert stuck_at(values, minutes(100), 3600.0) == [70, 80, 90]


def test_a_silence_makes_nothing_stuck_and_frees_nothing() -> None:
    before, day = np.array(minutes(6)), 86_400.0
    after = before[-1] + day + 60.0 * np.arange(1, 8)
    assert stuck_at([3.2] * 13, [*before, *after]) == [10, 11, 12]
    before = np.array(minutes(12))
    assert stuck_at([3.2] * 13, [*before, before[-1] + day]) == [10, 11, 12]


def test_lost_records_change_nothing() -> None:
    time = [at for i, at in enumerate(minutes(14)) if i not in (3, 4, 5, 8)]
    assert stuck_at([3.2] * 10, time) == [6, 7, 8, 9]


def one_by_one(x: FloatArray, time: FloatArray, names: Sequence[str]) -> list[bool]:
    """The same told as a story, of one feature that may stay for ten minutes."""
    runs: dict[str, dict[str, float]] = {}
    found = []
    for value, now, name in zip(x.tolist(), time.tolist(), names, strict=True):
        run = runs.get(name)
        if np.isnan(value):
            found.append(False)
            continue
        gap = NAN if run is None else now - run["time"]
        if run is None or value != run["value"]:
            runs[name] = {"value": value, "since": now, "time": now, "gap": gap, "off": 0.0, "n": 1}
        else:
            usual = max(60.0, min(gap, 0.0 if np.isnan(run["gap"]) else run["gap"]))
            run["off"] += np.floor(gap - usual) if gap > 5 * usual else 0.0
            run["time"], run["gap"], run["n"] = now, gap, run["n"] + 1
        own = runs[name]
        found.append(own["n"] >= 3 and now - own["since"] - own["off"] >= 600.0)
    return found


@pytest.mark.parametrize("size", [1, 7, 900])
def test_any_batches_of_any_entities_give_the_same_bits(size: int) -> None:
    rng = np.random.default_rng(size)
    n, names = 900, np.array(["a", "b", "c", "d"])
    entity = rng.integers(0, 4, n)
    x = np.where(rng.random((n, 3)) < 0.05, rng.normal(size=(n, 3)), NAN)
    for column in (0, 1, 2):
        for e in range(4):
            own = np.flatnonzero(entity == e)
            last = np.maximum.accumulate(np.where(~np.isnan(x[own, column]), np.arange(len(own)), 0))
            x[own, column] = x[own[last], column]
    x[rng.random((n, 3)) < 0.2] = NAN
    time = 1.8e9 + np.cumsum(rng.exponential(15.0, n) + (rng.random(n) < 0.02) * 4000.3)
    rules = rules_of(np.inf, 600.0, 600.0)
    state, stuck, since = rules.initial_state(4), np.zeros((n, 2), bool), np.full((n, 2), NAN)
    for first in range(0, n, size):
        rows = np.arange(first, min(first + size, n))
        order = rows[np.argsort(entity[rows], kind="stable")]
        present, lengths = np.unique(entity[order], return_counts=True)
        found = rules.follow(state[present], x[order], time[order], lengths, 60.0)
        state[present], stuck[order], since[order] = found.state, found.stuck, found.since
    for s, column in enumerate((1, 2)):
        assert stuck[:, s].tolist() == one_by_one(x[:, column], time, names[entity].tolist())
    assert 50 < stuck.sum() < n
    whole_order = np.argsort(entity, kind="stable")
    whole = rules.follow(rules.initial_state(4), x[whole_order], time[whole_order], np.bincount(entity), 60.0)
    assert whole.state.tobytes() == state.tobytes()
    assert whole.since.tobytes() == since[whole_order].tobytes()


def test_what_an_alert_told_of_goes_on() -> None:
    rules = rules_of(np.inf, 600.0, 600.0)
    told = Explained(
        1.8e9,
        (
            FeatureReason("c", 3.2, 3.2, 0.1, 0.0, stuck=Stuck(3.2, 1.8e9 - 700.0, 700.0, 600.0)),
            FeatureReason("b", 1.0, 1.0, 0.1, 0.0),
        ),
        None,
    )
    state = rules.told_before(("a", "b", "c"), told)
    x = np.array([[3.2, 3.2, 3.2], [3.2, 3.2, 3.1]])
    found = rules.follow(state, x, np.array([1.8e9 + 5000.0, 1.8e9 + 5060.0]), np.array([2]), 60.0)
    assert found.stuck.tolist() == [[False, True], [False, False]]
    assert found.since[0, 1] == 1.8e9 - 700.0
