"""Tests for detector.alerting.own_level: what an entity has been like of late."""

import numpy as np
import pytest

from detector.alerting.own_level import OwnLevel
from detector.batch import FloatArray

RNG = np.random.default_rng(8)


def known_from(values: FloatArray, settled_after: int = 300) -> tuple[OwnLevel, FloatArray]:
    level, standing = OwnLevel.of_first(values[0]), []
    for i, row in enumerate(values[1:]):
        found, level = level.followed_by(row, 1.0, settled=i >= settled_after)
        standing.append(found)
    return level, np.array(standing)


def test_location_and_spread_of_every_feature_are_found() -> None:
    level, _ = known_from(RNG.normal([3.0, -20.0], [5.0, 10.0], (3000, 2)))
    np.testing.assert_allclose(level.location, [3.0, -20.0], atol=2.0)
    np.testing.assert_allclose(level.spread, [5.0, 10.0], rtol=0.15)


def test_spread_is_never_below_that_of_the_traffic_that_trained_the_model() -> None:
    level, standing = known_from(np.full((500, 3), 7.0))
    np.testing.assert_array_equal(level.spread, 1.0)
    assert (standing <= 0.0).all()


def test_what_is_off_in_several_features_stands_out_and_the_level_does_not() -> None:
    values = RNG.normal(50.0, 4.0, (2000, 8))
    values[1900:1903, :4] += 40.0
    _, standing = known_from(values)
    assert standing[1899:1902].max() > 10.0
    assert np.quantile(standing[500:1890], 0.999) < 6.0


def test_a_level_far_from_the_first_record_is_found_soon() -> None:
    values = RNG.normal(10.0, 1.0, (400, 2))
    values[0] = 1e3
    level, _ = known_from(values, settled_after=1000)
    np.testing.assert_allclose(level.location, 10.0, atol=1.5)


def test_a_missing_feature_changes_nothing_of_itself() -> None:
    values = RNG.normal(0.0, 2.0, (400, 2))
    level, _ = known_from(values)
    _, after = level.followed_by(np.array([1.0, np.nan]), 1.0, settled=True)
    assert after.location[1] == level.location[1]
    assert after.spread[1] == level.spread[1]
    assert after.location[0] != level.location[0]


def test_a_feature_that_was_missing_at_first_is_known_from_when_it_comes() -> None:
    values = RNG.normal(30.0, 1.0, (200, 2))
    values[:50, 1] = np.nan
    level, standing = known_from(values)
    assert level.location[1] == pytest.approx(30.0, abs=1.5)
    assert np.isfinite(standing).all()


def test_values_without_bounds_leave_numbers() -> None:
    values = RNG.normal(0.0, 1.0, (200, 2))
    values[100] = [np.inf, -1e300]
    level, standing = known_from(values)
    assert np.isfinite(standing).all()
    assert np.isfinite(level.location).all()
    assert standing[-1] < 6.0


def test_a_record_that_teaches_nothing_leaves_what_is_known() -> None:
    level, _ = known_from(RNG.normal(0.0, 1.0, (100, 2)))
    _, after = level.followed_by(np.array([9.0, 9.0]), 0.0, settled=True)
    np.testing.assert_array_equal(after.location, level.location)
    np.testing.assert_array_equal(after.spread, level.spread)
    assert after.usual == level.usual


def test_nats_rise_with_the_deviation_linearly_far_out() -> None:
    level = OwnLevel(np.zeros(3), np.array([1.0, 2.0, 1.0]), 0.0, 0.0, 1.0, 50.0)
    np.testing.assert_allclose(level.surprise(np.array([0.0, 20.0, -100.0])), [0.0, 9.05, 99.0], atol=0.01)
