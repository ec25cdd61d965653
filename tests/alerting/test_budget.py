"""Tests for detector.alerting.budget."""

import numpy as np
import pytest

from detector.alerting.budget import (
    HeldOut,
    Threshold,
    aim,
    entities_at_once,
    threshold_for,
    threshold_while_learning,
)
from detector.alerting.episodes import count_episodes
from detector.alerting.rules import AlertRules, Budget

DAY_S = 86400.0


def held_out(records: int = 20_000, entities: int = 4, seed: int = 0) -> HeldOut:
    rng = np.random.default_rng(seed)
    return HeldOut(
        rng.uniform(size=records * entities),
        np.full(entities, records),
        np.full(entities, records * 60.0),
        np.tile(60.0 * np.arange(records), entities),
    )


def count_at(threshold: Threshold, traffic: HeldOut, rules: AlertRules) -> int:
    score = np.log(traffic.p_value) / np.log(threshold.p_value)
    return count_episodes(score, traffic.time, traffic.lengths, rules)


@pytest.mark.parametrize(("m", "of"), [(1, 1), (2, 3), (3, 5)])
def test_held_out_traffic_stays_within_the_budget_and_uses_it(m: int, of: int) -> None:
    rules = AlertRules(Budget(1.0, "entity", DAY_S), m, of)
    evidence = held_out()
    threshold = threshold_for(evidence, rules, 4)
    episodes = count_at(threshold, evidence, rules)
    bearable = threshold.aimed_rate * evidence.span_s.sum()
    assert 0.8 * bearable <= episodes <= bearable
    assert threshold.supported


def test_fresh_traffic_keeps_the_budget_too() -> None:
    rules = AlertRules(Budget(1.0, "entity", DAY_S))
    threshold = threshold_for(held_out(), rules, 4)
    fresh = held_out(seed=1)
    episodes = count_at(threshold, fresh, rules)
    bearable = threshold.aimed_rate * fresh.span_s.sum()
    assert bearable / 2 < episodes < 2 * bearable


@pytest.mark.parametrize("borne", [12.0, 30.0, 100.0])
def test_aim_leaves_nine_in_ten_sure_of_the_budget(borne: float) -> None:
    rng = np.random.default_rng(0)
    # The rates at which as many may have been counted in held-out time, and what comes in as long a time.
    rate = rng.gamma(aim(borne) * borne + 0.5, size=100_000)
    assert 0.88 <= np.mean(rng.poisson(rate) <= borne) <= 0.96


def test_little_evidence_aims_at_half_of_the_budget_and_much_at_nine_tenths() -> None:
    assert aim(0.01) == 0.5
    assert aim(1e6) == 0.9
    assert 0.5 < aim(20.0) < aim(50.0) < 0.9


def test_threshold_of_a_rare_budget_is_found_where_episodes_can_be_counted() -> None:
    rules = AlertRules(Budget(1.0, "entity", 7 * DAY_S), 1, 1)
    evidence = [held_out(records=5000, entities=4, seed=seed) for seed in range(20)]
    thresholds = [threshold_for(one, rules, 4) for one in evidence]
    rates = np.array([one.p_value / 60.0 / one.aimed_rate for one in thresholds])
    # Of the two episodes that are borne alone, one would know it to 70 %.
    assert 0.8 < rates.mean() < 1.2
    assert rates.std() < 0.35


def test_entities_at_once_are_those_alive_on_average() -> None:
    times = 60.0 * np.arange(1000)
    assert entities_at_once(np.repeat(np.arange(3), 1000), np.tile(times, 3)) == pytest.approx(3.0, rel=1e-12)
    # One after another, ten at a time; who is there for half of the time is half an entity.
    by_turns = np.repeat(np.arange(200), 50), np.tile(times.reshape(20, 50), (10, 1)).ravel()
    assert entities_at_once(*by_turns) == pytest.approx(10.0, rel=0.03)
    half = np.repeat([0, 1], [1000, 500]), np.concatenate((times, times[500:]))
    assert entities_at_once(*half) == pytest.approx(1.5, rel=0.02)


def test_neither_a_wrong_clock_nor_one_moment_is_the_whole_time() -> None:
    entity, time = np.repeat(np.arange(3), 1000), np.tile(60.0 * np.arange(1000), 3)
    time[0], time[-1] = -1e9, 1e9
    assert entities_at_once(entity, time) == pytest.approx(3.0, rel=1e-12)
    assert entities_at_once(np.arange(5), np.zeros(5)) == 5.0
    assert entities_at_once(np.zeros(5, int), np.arange(5.0)) == 1.0


def test_a_fleet_shares_its_budget() -> None:
    per_entity = threshold_for(held_out(), AlertRules(Budget(1.0, "entity", DAY_S)), 4)
    per_fleet = threshold_for(held_out(), AlertRules(Budget(1.0, "fleet", DAY_S)), 4)
    assert per_fleet.budget_rate == pytest.approx(per_entity.budget_rate / 4)
    assert per_fleet.p_value < per_entity.p_value


def test_budget_beyond_the_evidence_is_extrapolated_towards_silence_and_says_so() -> None:
    rules = AlertRules(Budget(1.0, "entity", 3650 * DAY_S))
    evidence = held_out()
    threshold = threshold_for(evidence, rules, 4)
    assert not threshold.supported
    within = threshold_for(evidence, AlertRules(Budget(1.0, "entity", 20 * DAY_S)), 4)
    assert 0 < threshold.p_value < within.p_value


def test_no_held_out_time_says_to_train_with_more() -> None:
    with pytest.raises(ValueError, match="train with more records"):
        threshold_for(HeldOut(np.empty(0), np.empty(0, int), np.empty(0), np.empty(0)), AlertRules(), 1)


def test_while_learning_a_suspicious_record_counts_as_an_episode_but_none_is_rarer_than_one_in_500() -> None:
    minutes, hours = (
        threshold_while_learning(held_out(), AlertRules(Budget(1.0, "entity", DAY_S)), 4, interval_s)
        for interval_s in (60.0, 3600.0)
    )
    assert minutes.p_value == pytest.approx(0.55 / 1440)
    assert hours.p_value == pytest.approx(0.002)
    # Rarer than the operator bears, and that is what is said to be expected.
    assert minutes.aimed_rate * DAY_S == pytest.approx(0.55)
    assert hours.aimed_rate * DAY_S == pytest.approx(24 * 0.002)
