"""Tests for detector.scoring.time_scale: faint evidence adds up, and is calibrated like any other."""

import numpy as np
import pytest

from detector.alerting.rules import AlertRules
from detector.models.feature_transforms import FeatureTransforms
from detector.pipeline.entity_state import initial_state
from detector.pipeline.run import run
from detector.scoring.committee import Committee
from detector.scoring.member import Member
from detector.scoring.scoring_model import ScoringModel
from detector.scoring.time_scale import TimeScale
from detector.training.calibrate import calibrate
from tests.made import batch, density, detector, gmm, records_like
from tests.pipelines import scores_of
from tests.scoring.test_calibration import THINNING, two_sample_p_value

RNG = np.random.default_rng(8)


def model_on(scale: TimeScale, records: int = 20_000) -> ScoringModel:
    own = density(gmm())
    z = records_like(own, records, np.random.default_rng(1))
    calibrated = calibrate(
        own,
        z,
        np.arange(records, dtype=float),
        lengths=np.array([records]),
        model=np.zeros(1, dtype=np.int64),
        held_out=np.ones(records, dtype=bool),
        interval_s=1.0,
        min_features=1,
        time_scale=scale,
    )
    member = Member(own, calibrated.examples, calibrated.calibration, scale, calibrated.confirmation)
    transforms = FeatureTransforms.none(3)
    return ScoringModel(("f0", "f1", "f2"), (None,) * 3, (), (member,), Committee(None), transforms)


def test_average_is_the_weighted_mean_of_the_past_that_counts() -> None:
    surprise = RNG.normal(size=9)
    counted = np.array([True] * 4 + [False] + [True] * 4)
    after, averages = TimeScale(0.25, 0.5).average(np.ones((1, 2)), surprise, counted, np.array([9]))
    for weight, average in zip((0.25, 0.5), averages.T, strict=True):
        mean = 1.0
        for value, counts, found in zip(surprise, counted, average, strict=True):
            mean += weight * (value - mean) if counts else 0.0
            assert found == pytest.approx(mean, rel=1e-12)
    np.testing.assert_array_equal(after[0], averages[-1])


@pytest.mark.parametrize("hidden", [[], [0, 1]])
def test_p_values_of_averages_are_uniform(hidden: list[int]) -> None:
    model = model_on(TimeScale(0.3))
    rows = records_like(model.density, 50_000, np.random.default_rng(99))
    rows[50::THINNING, hidden] = np.nan
    p_value = scores_of(detector(model, min_features=1), rows).p_value[50::THINNING]
    assert two_sample_p_value(p_value, 20_000 // THINNING) > 0.001


def test_a_long_faint_shift_is_seen_by_an_average_alone() -> None:
    shifted = records_like(density(gmm()), 400, np.random.default_rng(3))
    shifted[200:] += 1.0
    by_itself, average = (
        scores_of(detector(model_on(TimeScale(w), 4000)), shifted).p_value for w in (1.0, 0.05)
    )
    assert np.median(average[250:]) < 0.1 * np.median(by_itself[250:])


def test_what_a_slow_average_remembers_has_to_be_confirmed() -> None:
    over = records_like(density(gmm()), 400, np.random.default_rng(3))
    over[150:200] += 3.0
    alone, asked = (
        scores_of(detector(model_on(TimeScale(0.02, c), 4000)), over).p_value for c in (None, 0.3)
    )
    assert (asked >= alone).all()
    assert np.median(asked[180:200]) < 0.01
    assert np.median(alone[215:230]) < 0.01
    assert np.median(asked[215:230]) > 0.1


def test_alerts_need_a_fast_average_that_alarms_and_not_one_that_nearly_does() -> None:
    records = records_like(density(gmm()), 400, np.random.default_rng(3))
    records[150:250] += np.linspace(3.0, 0.0, 100)[:, None]
    slow, fast = (
        scores_of(detector(model_on(scale, 4000), threshold=0.02), records)
        for scale in (TimeScale(0.02, 0.3), TimeScale(0.3))
    )
    alarms = fast.p_value <= 0.02
    assert slow.alert[160:200].all()
    assert (slow.exceeds_threshold & ~alarms).any()
    begins = slow.alert & ~np.concatenate(([False], slow.alert[:-1]))
    assert alarms[begins].all()
    last = int(np.flatnonzero(fast.p_value <= 0.02 ** AlertRules().resolve_below)[-1])
    assert not slow.alert[last + AlertRules().resolve_records :].any()


def test_a_record_without_any_likelihood_is_forgotten() -> None:
    model = model_on(TimeScale(0.3), 4000)
    rows = records_like(model.density, 200, np.random.default_rng(4))
    rows[50] = 1e9
    p_value = scores_of(detector(model), rows).p_value
    assert p_value[50] < 1e-6
    assert (p_value[100:] > 1e-3).all()


def test_averages_go_on_from_batch_to_batch_with_the_same_bits() -> None:
    model = detector(model_on(TimeScale(0.1), 2000))
    rows = records_like(model.model.density, 90, np.random.default_rng(5))
    rows[40, 0] = np.nan
    whole = scores_of(model, rows).p_value
    state, parts = initial_state(model, ["a"]), []
    for start in range(0, 90, 7):
        part = slice(start, min(start + 7, 90))
        n = part.stop - part.start
        one = batch(rows[part], entity=["a"] * n, time=np.arange(part.start, part.stop, dtype=float))
        outcome = run(model, state, one, np.arange(n), np.array([n]))
        state = outcome.state
        parts.append(outcome.scores.p_value)
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_weight_out_of_range_is_refused() -> None:
    for weight in (0.0, 1.5):
        with pytest.raises(ValueError, match="must be in"):
            TimeScale(weight)
