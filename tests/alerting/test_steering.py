"""Tests for detector.alerting.steering: louder or calmer traffic than held-out traffic keeps the budget."""

from dataclasses import replace

import numpy as np
import pytest

from detector.alerting.budget import HeldOut, Threshold
from detector.alerting.rules import AlertRules
from detector.alerting.steering import Steering
from detector.batch import FloatArray

DAY_S = 86_400.0
MINUTE_S = 60.0
RNG = np.random.default_rng(2)


def steering(
    budget_per_day: float = 1.0,
    p_value: float = 1e-4,
    rules: AlertRules | None = None,
    smallest: float = 1e-300,
) -> Steering:
    held_out = HeldOut(
        RNG.uniform(size=10 * 1440),
        np.array([10 * 1440]),
        np.array([10 * DAY_S]),
        MINUTE_S * np.arange(10.0 * 1440),
    )
    rate = budget_per_day / DAY_S
    return Steering.of(
        held_out,
        Threshold(p_value, rate, aimed_rate=rate / 2, smallest_rate=0.0),
        rules or AlertRules(),
        smallest,
    )


def while_learning() -> Steering:
    rate = 1.0 / DAY_S
    threshold = Threshold(1e-5, rate, aimed_rate=rate / 2, smallest_rate=0.0)
    return Steering.while_learning(threshold, AlertRules())


def thresholds(p_value: FloatArray, own: Steering, batch: int | None = None) -> FloatArray:
    state, found = own.initial_state(1), []
    for start in range(0, len(p_value), batch or len(p_value)):
        part = p_value[start : start + (batch or len(p_value))]
        time = MINUTE_S * np.arange(start, start + len(part), dtype=np.float64)
        state, nats = own.steer(state, part, time, np.array([len(part)]))
        found.append(nats)
    return np.concatenate(found)


def with_spikes(days: int, per_day: float, p_value: float = 1e-6) -> FloatArray:
    found = RNG.uniform(0.1, 1.0, days * 1440)
    found[:: int(1440 / per_day)] = p_value
    return found


def wandering(n: int, around: float = 9.0, stays: float = 0.97) -> FloatArray:
    """Surprise that comes and goes about a level, and is never calm, as p-values."""
    nats = np.full(n, around)
    for t in range(1, n):
        nats[t] = around + stays * (nats[t - 1] - around) + 3.0 * np.sqrt(1 - stays**2) * RNG.normal()
    return np.asarray(np.exp(-np.maximum(nats, 2.2)))


def calm(n: int) -> FloatArray:
    return np.full(n, 0.5)


def alerts(
    p_value: FloatArray, threshold: FloatArray | float, rules: AlertRules, interval_s: float = MINUTE_S
) -> int:
    """Count alerts that are over, one record after the other; what comes back within the cooldown is none."""
    found, calm_records, is_open, recurs, over_since = 0, 0, False, False, -np.inf
    scores = -np.log(p_value) / threshold
    for row, score in enumerate(scores.tolist()):
        calm_records = calm_records + 1 if score < rules.resolve_below else 0
        if score >= 1.0 and not is_open:
            is_open, recurs = True, row * interval_s - over_since < rules.cooldown_s
        elif is_open and calm_records >= rules.resolve_records:
            is_open, over_since = False, row * interval_s
            found += not recurs
    return found


def test_calmer_traffic_than_aimed_at_gets_a_threshold_two_nats_lower_and_no_more() -> None:
    own = steering(1.0, 1e-5)
    found = thresholds(RNG.uniform(size=30 * 1440), own)
    assert found[0] == own.base
    assert found.min() == found[-1] == own.base - 2.0


def test_what_is_calm_is_never_above_a_threshold() -> None:
    own = steering(1000.0, 0.15)
    assert (thresholds(RNG.uniform(size=10 * 1440), own) >= own.base).all()


def test_episodes_come_as_often_as_aimed_at() -> None:
    own = steering(1.0, 1e-4)
    p_value = RNG.uniform(size=400 * 1440)
    per_day = np.count_nonzero(-np.log(p_value) >= thresholds(p_value, own)) / 400
    assert 0.5 * 0.5 < per_day < 0.5
    assert np.count_nonzero(p_value <= 1e-4) / 400 < 0.2


def test_no_threshold_is_lowered_before_a_few_episodes_could_have_come() -> None:
    own = steering(0.01, 1e-5)
    assert (thresholds(with_spikes(20, 0.1, 2e-5), own) >= own.base).all()


def test_louder_traffic_gets_a_threshold_above_what_it_does_too_often() -> None:
    own = steering()
    found = thresholds(with_spikes(20, 10), own)
    assert found[0] == own.base
    assert found[-1] > -np.log(1e-6)


def test_a_few_incidents_are_borne_and_none_blinds() -> None:
    own = steering(0.1, 1e-5)
    assert (thresholds(with_spikes(1, 3, 1e-30), own) == own.base).all()
    assert thresholds(with_spikes(20, 20, 1e-300), own).max() <= own.base + 9.0


def test_a_long_incident_counts_once() -> None:
    p_value = RNG.uniform(0.1, 1.0, 5 * 1440)
    p_value[1000:4000] = 1e-20
    assert (thresholds(p_value, steering()) <= steering().base).all()


def test_what_comes_and_goes_without_ever_being_calm_keeps_the_budget() -> None:
    nats = RNG.uniform(2.2, 6.0, 5 * 1440)
    nats[::90] = 12.0
    own, p_value = steering(), np.exp(-nats)
    assert alerts(p_value, own.base, AlertRules()) == 80
    assert alerts(p_value, thresholds(p_value, own), AlertRules()) < 8


@pytest.mark.parametrize("rules", [AlertRules(), AlertRules(resolve_below=0.9, resolve_records=2)])
@pytest.mark.parametrize("batch", [1, 7, 4510])
def test_what_is_counted_at_each_level_are_the_alerts_there(rules: AlertRules, batch: int) -> None:
    # So fast that nothing is forgotten.
    interval_s = 2.0**-20
    rules = replace(rules, cooldown_s=30 * interval_s)
    own = steering(rules=rules)
    parts = [wandering(3000), wandering(500, 20.0), calm(500), wandering(500, 6.0, 0.8), calm(10)]
    p_value = np.concatenate(parts)
    state, time = own.initial_state(1), interval_s * np.arange(len(p_value), dtype=np.float64)
    for start in range(0, len(p_value), batch):
        part = slice(start, start + batch)
        state, _ = own.steer(state, p_value[part], time[part], np.array([len(p_value[part])]))
    found = [alerts(p_value, level, rules, interval_s) for level in own.levels]
    np.testing.assert_allclose(state["counts"][0], found, rtol=1e-6)
    assert min(found[: int(np.searchsorted(own.levels, own.base + 9.0))]) > 0


def test_held_out_traffic_is_counted_alike() -> None:
    parts = [np.append(with_spikes(2, 5), calm(9)), np.append(wandering(500), calm(10))]
    lengths = np.array([len(part) for part in parts])
    time = MINUTE_S * np.concatenate([np.arange(n) for n in lengths])
    held_out = HeldOut(np.concatenate(parts), lengths, MINUTE_S * lengths, time)
    own = Steering.of(
        held_out, Threshold(1e-4, 1e-5, aimed_rate=5e-6, smallest_rate=0.0), AlertRules(), 1e-300
    )
    found = [sum(alerts(part, level, AlertRules()) for part in parts) for level in own.levels]
    np.testing.assert_allclose(own.counts, 0.3 * np.array(found) / 2)


@pytest.mark.parametrize("p_value", [0.19, 0.04, 1e-4, 1e-12, 1e-30])
def test_levels_reach_from_the_lowest_threshold_to_the_highest(p_value: float) -> None:
    own = steering(p_value=p_value)
    assert own.levels[0] == pytest.approx(max(own.base - 2.0, 2.0, min(own.base, 2.1)))
    assert own.levels[-1] > max(own.base + 9.0, 6.0 * own.levels[0])
    assert (np.diff(own.levels) >= 0.0).all()
    assert (own.levels[1:] / own.levels[:-1]).max() < 1.13


def test_traffic_that_is_far_louder_every_day_gets_a_threshold_above_it() -> None:
    assert thresholds(with_spikes(30, 10, p_value=1e-12), steering())[-1] > -np.log(1e-12)


def test_what_was_loud_is_forgotten() -> None:
    own = steering()
    quiet_later = np.concatenate([with_spikes(20, 10), RNG.uniform(0.1, 1.0, 200 * 1440)])
    quiet_later[-10:] = [1e-9, *[0.5] * 9]
    found = thresholds(quiet_later, own)
    assert found.max() > own.base
    assert found[-1] <= own.base


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_batches_of_any_size_give_the_same_thresholds(batch: int) -> None:
    own, p_value = steering(), np.concatenate([with_spikes(3, 40), wandering(500), with_spikes(1, 40)])
    np.testing.assert_array_equal(thresholds(p_value, own, batch), thresholds(p_value, own))


def test_entities_are_steered_apart() -> None:
    own = steering()
    quiet, loud = RNG.uniform(0.1, 1.0, 20 * 1440), with_spikes(20, 10)
    time = np.tile(MINUTE_S * np.arange(20 * 1440, dtype=np.float64), 2)
    state, found = own.steer(
        own.initial_state(2), np.concatenate([quiet, loud]), time, np.array([len(quiet), len(loud)])
    )
    np.testing.assert_array_equal(own.steered(state), [False, True])
    assert (found[: len(quiet)] == own.base).all()
    np.testing.assert_array_equal(found[len(quiet) :], thresholds(loud, own))


def test_what_comes_every_day_hides_nothing_that_a_single_record_can_be() -> None:
    every_day = with_spikes(30, 4, p_value=1e-6)
    assert thresholds(every_day, steering())[-1] > -np.log(1e-6)
    within_reach = thresholds(every_day, steering(smallest=1e-6))
    assert steering().base < within_reach[-1] < -np.log(1e-6)
    # One that is out of reach anyway stays what it was.
    assert thresholds(every_day, steering(smallest=1e-3))[-1] == steering().base


def test_where_p_values_follow_the_traffic_a_threshold_sinks_by_a_nat() -> None:
    own = while_learning()
    found = thresholds(RNG.uniform(size=60 * 1440), own)
    assert found[0] == own.base
    assert found.min() == found[-1] == own.base - 1.0


def test_where_p_values_follow_the_traffic_no_threshold_rises() -> None:
    own = while_learning()
    loud_later = np.concatenate([RNG.uniform(size=60 * 1440), with_spikes(60, 20, 1e-30)])
    found = thresholds(loud_later, own)
    assert found.max() == found[-1] == own.base
    assert found.min() < own.base
