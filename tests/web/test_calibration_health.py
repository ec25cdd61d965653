"""Tests for detector.web.calibration_health."""

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.web.calibration_health import HALF_LIFE_S, CalibrationHealth


def drawn(n: int = 300_000, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).uniform(size=n)


def health_of(p_value: FloatArray, threshold: float = 1e-5) -> CalibrationHealth:
    health = CalibrationHealth(threshold)
    for i, part in enumerate(np.array_split(p_value, 10)):
        health.add(part, np.ones(len(part), dtype=bool), 60.0 * i)
    return health


def test_uniform_p_values_are_as_promised() -> None:
    assert health_of(drawn()).ratio == pytest.approx(1.0, abs=0.25)


def test_says_how_many_times_too_often_small_p_values_come() -> None:
    # Of p ** 2, one in ten is below a hundredth.
    assert health_of(drawn() ** 2, threshold=0.0011).ratio == pytest.approx(0.03**0.5 / 0.03, rel=0.1)


def test_says_how_many_times_too_seldom_small_p_values_come() -> None:
    assert health_of(np.minimum(4.0 * drawn(), 1.0)).ratio == pytest.approx(0.25, rel=0.3)


def test_levels_near_the_threshold_do_not_count_where_alerts_are_left_out() -> None:
    p_value = drawn()
    health = CalibrationHealth(1e-3)
    health.add(p_value, p_value > 1e-3, 0.0)
    assert health.ratio == pytest.approx(1.0, abs=0.15)


def test_few_records_say_nothing() -> None:
    assert np.isnan(health_of(drawn(1000)).ratio)


def test_unscored_records_do_not_count() -> None:
    health = health_of(np.concatenate([drawn(), np.full(300_000, np.nan)]))
    assert health.ratio == pytest.approx(1.0, abs=0.25)


def test_what_was_long_ago_is_forgotten_by_event_time() -> None:
    health = health_of(drawn() ** 2)
    fresh = drawn(seed=1)
    health.add(fresh, np.ones(len(fresh), dtype=bool), 12 * HALF_LIFE_S)
    assert health.ratio == pytest.approx(1.0, abs=0.25)
