"""Tests for detector.alerting.budget."""

import numpy as np
import pytest

from detector.alerting.budget import AIM, HeldOut, threshold_for, threshold_while_learning
from detector.alerting.episodes import count_episodes
from detector.alerting.rules import AlertRules, Budget

DAY_S = 86400.0


def held_out(records: int = 20_000, entities: int = 4, seed: int = 0) -> HeldOut:
    rng = np.random.default_rng(seed)
    return HeldOut(
        rng.uniform(size=records * entities),
        np.full(entities, records),
        np.full(entities, records * 60.0),
    )


@pytest.mark.parametrize(("m", "of"), [(1, 1), (2, 3), (3, 5)])
def test_held_out_traffic_stays_within_the_budget_and_uses_it(m: int, of: int) -> None:
    rules = AlertRules(Budget(1.0, "entity", DAY_S), m, of)
    evidence = held_out()
    threshold = threshold_for(evidence, rules, 4)
    episodes = count_episodes(np.log(evidence.p_value) / np.log(threshold.p_value), evidence.lengths, rules)
    bearable = AIM * evidence.span_s.sum() / DAY_S
    assert 0.8 * bearable <= episodes <= bearable
    assert threshold.supported


def test_fresh_traffic_keeps_the_budget_too() -> None:
    rules = AlertRules(Budget(1.0, "entity", DAY_S))
    threshold = threshold_for(held_out(), rules, 4)
    fresh = held_out(seed=1)
    episodes = count_episodes(np.log(fresh.p_value) / np.log(threshold.p_value), fresh.lengths, rules)
    bearable = AIM * fresh.span_s.sum() / DAY_S
    assert bearable / 2 < episodes < 2 * bearable


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
        threshold_for(HeldOut(np.empty(0), np.empty(0, int), np.empty(0)), AlertRules(), 1)


def test_while_learning_a_suspicious_record_counts_as_an_episode_but_none_is_rarer_than_one_in_300() -> None:
    minutes, hours = (
        threshold_while_learning(held_out(), AlertRules(Budget(1.0, "entity", DAY_S)), 4, interval_s)
        for interval_s in (60.0, 3600.0)
    )
    assert minutes.p_value == pytest.approx(1 / 1440)
    assert hours.p_value == pytest.approx(0.003)
