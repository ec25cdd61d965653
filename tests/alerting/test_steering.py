"""Tests for detector.alerting.steering: louder or calmer traffic than held-out traffic keeps the budget."""

import numpy as np
import pytest

from detector.alerting.budget import HeldOut, Threshold
from detector.alerting.steering import Steering
from detector.batch import FloatArray

DAY_S = 86_400.0
MINUTE_S = 60.0
RNG = np.random.default_rng(2)


def steering(budget_per_day: float = 1.0, p_value: float = 1e-4) -> Steering:
    held_out = HeldOut(
        RNG.uniform(size=10 * 1440),
        np.array([10 * 1440]),
        np.array([10 * DAY_S]),
        MINUTE_S * np.arange(10.0 * 1440),
    )
    rate = budget_per_day / DAY_S
    return Steering.of(held_out, Threshold(p_value, rate, aimed_rate=rate / 2, smallest_rate=0.0))


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


def test_calmer_traffic_than_aimed_at_gets_a_threshold_a_nat_lower_and_no_more() -> None:
    own = steering()
    found = thresholds(RNG.uniform(size=30 * 1440), own)
    assert found[0] == own.base
    assert found.min() == found[-1] == own.base - 1.0


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


def test_what_was_loud_is_forgotten() -> None:
    own = steering()
    quiet_later = np.concatenate([with_spikes(20, 10), RNG.uniform(0.1, 1.0, 200 * 1440)])
    quiet_later[-10:] = [1e-9, *[0.5] * 9]
    found = thresholds(quiet_later, own)
    assert found.max() > own.base
    assert found[-1] <= own.base


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_batches_of_any_size_give_the_same_thresholds(batch: int) -> None:
    own, p_value = steering(), with_spikes(3, 40)
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
