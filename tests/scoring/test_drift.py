"""Tests for detector.scoring.drift: small departures to one side add up."""

from dataclasses import replace

import numpy as np
import pytest

from detector.scoring.drift import FARTHEST, drift
from detector.scoring.time_scale import TimeScale
from tests.made import density, detector, gmm, records_like
from tests.pipelines import scores_of
from tests.scoring.test_time_scale import model_on

RNG = np.random.default_rng(5)
DRIFTING = TimeScale(0.2, averaged="deviation")


def test_surprise_is_that_of_the_moving_average() -> None:
    deviation = 4.0 * RNG.normal(size=(40, 2))
    deviation[RNG.uniform(size=deviation.shape) < 0.2] = np.nan
    counted = RNG.uniform(size=40) < 0.8
    after, averages, surprise = drift(np.zeros((1, 2)), deviation, 0.25, counted, np.array([40]))
    average = np.zeros(2)
    for t in range(40):
        for j in range(2):
            if counted[t]:
                value = np.clip(np.nan_to_num(deviation[t, j]), -FARTHEST, FARTHEST)
                average[j] += 0.25 * (value - average[j])
        assert surprise[t] == pytest.approx((average**2).sum() / (2 * 0.25 / 1.75), rel=1e-9)
        np.testing.assert_allclose(averages[t], average / np.sqrt(0.25 / 1.75))
    np.testing.assert_allclose(after[0], average)


def test_of_independent_deviations_it_is_half_a_chi_square() -> None:
    n = 200_000
    *_, surprise = drift(
        np.zeros((1, 2)), RNG.normal(size=(n, 2)), 0.1, np.ones(n, dtype=bool), np.array([n])
    )
    assert surprise.mean() == pytest.approx(1.0, abs=0.05)


def test_p_values_of_drift_are_uniform() -> None:
    model = model_on(DRIFTING)
    p_value = scores_of(detector(model), records_like(model.density, 20_000, RNG)).p_value[50::20]
    assert np.quantile(p_value, [0.1, 0.5]) == pytest.approx([0.1, 0.5], abs=0.04)


def test_departures_to_one_side_are_heard_and_to_both_sides_are_not() -> None:
    own = density(gmm())
    quiet = records_like(own, 400, np.random.default_rng(3))
    aside, scattered = quiet.copy(), quiet.copy()
    aside[200:] += 1.0
    scattered[200:] += np.where(np.arange(200) % 2 == 0, 1.0, -1.0)[:, None]
    model = model_on(DRIFTING)
    to_one, to_both = (np.median(scores_of(detector(model), x).p_value[220:]) for x in (aside, scattered))
    assert to_one < 0.1 * to_both


def test_a_drift_is_over_where_its_feature_comes_no_more() -> None:
    deviation = np.zeros((80, 2))
    deviation[:40, 1] = 2.0
    deviation[40:, 1] = np.nan
    *_, surprise = drift(np.zeros((1, 2)), deviation, 0.2, np.ones(80, dtype=bool), np.array([80]))
    assert surprise[39] > 10.0
    assert surprise[-1] < 0.01


@pytest.mark.parametrize("wrong", [{"weight": 1.0}, {"confirming": 0.5}])
def test_a_drift_is_over_several_records_and_unconfirmed(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="averaged over more than one record"):
        replace(DRIFTING, **wrong)  # type: ignore[arg-type]
