"""Tests for benchmarks.budget and benchmarks.synthetic, and with them the promise of the product."""

import numpy as np
import pytest
from scipy.stats import poisson

from benchmarks.budget import Setting, measure, poisson_interval
from benchmarks.synthetic import DRIFT_SCALE, N_FEATURES, Kind, traffic


@pytest.mark.parametrize("kind", ["independent", "autocorrelated", "heavy_tailed"])
def test_stationary_traffic_keeps_the_budget_to_a_factor_of_two(kind: Kind) -> None:
    per_week, _, of_fleet = measure(Setting("gmm", kind, 30, 1800.0, 42.0, 60.0, seed=0))
    assert not per_week.young
    assert per_week.expected > 250
    assert of_fleet.expected > 100
    assert per_week.met, per_week
    assert of_fleet.met, of_fleet


def test_entities_do_not_depend_on_how_many_others_there_are() -> None:
    few, many = (traffic("autocorrelated", n, 1.0, 600.0, seed=3).values for n in (2, 5))
    np.testing.assert_array_equal(few, many[:2])


def test_drift_moves_location_and_scale_as_stated() -> None:
    steady = traffic("autocorrelated", 3, 60.0, 600.0, seed=1).values
    drifting = traffic("drifting", 3, 60.0, 600.0, seed=1).values
    np.testing.assert_allclose(drifting[:, 0], steady[:, 0])
    last_day = slice(-144, None)
    for e in range(3):
        for j in range(N_FEATURES):
            slope = np.polyfit(steady[e, last_day, j], drifting[e, last_day, j], 1)[0]
            assert abs(np.log(slope)) == pytest.approx(np.log(DRIFT_SCALE), rel=0.15)


@pytest.mark.parametrize("observed", [0, 1, 17])
def test_interval_holds_the_means_that_are_not_improbable(observed: int) -> None:
    low, high = poisson_interval(observed)
    assert poisson.cdf(observed, high) == pytest.approx(0.025)
    if observed:
        assert poisson.sf(observed - 1, low) == pytest.approx(0.025)
