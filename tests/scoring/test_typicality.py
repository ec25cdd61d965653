"""Tests for detector.scoring.typicality, and for a calibration that has a lower side."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import pytest
from scipy.stats import chi2, kstest

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Family
from detector.models.families import FAMILIES
from detector.scoring.calibration import Calibration
from detector.scoring.moments import Moments
from detector.scoring.scoring_model import ScoringModel
from detector.scoring.tail import Tail
from detector.scoring.typicality import Choice, LowerSide, PValues, is_on, two_sided
from tests.made import detector, gmm, records_like, scoring_model
from tests.models.families_by_hand import random_rbm, random_vae
from tests.pipelines import scores_of

D = 30
BY_RANK = Tail((np.arange(1000) + 0.5) / 1000, np.inf, 0.0, 0.0, 1.0)


def none_missing(n: int) -> tuple[BoolArray, BoolArray]:
    return np.zeros((n, D), dtype=bool), np.zeros((n, 0), dtype=bool)


@dataclass(frozen=True)
class Halved:
    """Stored rows whose surprise is half as large, whichever features they lack."""

    surprise: FloatArray
    model: IntArray
    complete: bool = False

    def __call__(
        self, missing: BoolArray, past_missing: BoolArray, *, most: int
    ) -> list[tuple[FloatArray, IntArray]]:
        rows = slice(None, None, -(-self.surprise.size // most))
        return [(self.surprise[rows] / 2, self.model[rows])] * len(missing)


NO_ROWS = Halved(np.empty(0), np.empty(0, dtype=np.int64))


def calibration_of(surprise: FloatArray, model: IntArray, n_models: int, examples: int = 1000) -> Calibration:
    """Two-sided; rows that lack features have the surprise of every so many row, halved."""
    moments = Moments.fit(surprise, model, n_models)
    some = np.linspace(0, surprise.size - 1, examples).astype(np.int64)

    return Calibration(
        moments,
        Tail.fit(moments.normalise(surprise, model)),
        Halved(surprise[some], model[some]),
        LowerSide.fit(surprise, model, n_models),
    )


def p_values(calibration: Calibration, surprise: FloatArray, model: IntArray, *, missing: int = 0) -> PValues:
    here, past = none_missing(surprise.size)
    here[:, :missing] = True
    return calibration.p_value(surprise, model, here, past)


def gaussian_surprise(rng: np.random.Generator, n: int, d: int = D) -> FloatArray:
    """Of rows of a standard Gaussian, up to a constant: 0 is the mode."""
    return np.asarray(rng.chisquare(d, n) / 2)


def one_entity(surprise: list[float] | FloatArray) -> tuple[FloatArray, IntArray]:
    values = np.asarray(surprise, dtype=np.float64)
    return values, np.zeros(values.size, dtype=np.int64)


def test_two_uniform_sides_make_one_uniform_p_value() -> None:
    upper = (np.arange(10_000) + 0.5) / 10_000
    p_value, too_likely = two_sided(upper, upper, BY_RANK)
    for level in (1e-3, 0.01, 0.1, 0.5, 0.9, 1.0):
        assert np.mean(p_value <= level) == pytest.approx(level, abs=2e-3)
    assert p_value.max() <= 1.0
    assert not too_likely[:9500].any()
    assert too_likely[9510:].all()


def test_a_surprising_row_loses_about_a_twentieth() -> None:
    assert two_sided(np.array([1e-6]), np.array([0.0]), BY_RANK).p_value == pytest.approx([1e-6 / 0.95])


@pytest.mark.parametrize("m", [1, 3, 60, 2000])
def test_the_p_value_is_the_smaller_of_both_by_their_shares(m: int) -> None:
    rng = np.random.default_rng(m)
    # Values that repeat, and values on both sides of all of the calibration rows.
    lower = Tail.fit(np.round(rng.normal(size=m), 1))
    upper, depth = rng.uniform(size=500), np.round(rng.normal(0, 2, 500), 1)
    p_value, too_likely = two_sided(upper, depth, lower)
    by_lower = lower.p_value(depth) / 0.05
    np.testing.assert_allclose(p_value, np.minimum(np.minimum(upper / 0.95, by_lower), 1.0))
    np.testing.assert_array_equal(too_likely, by_lower < np.minimum(upper / 0.95, 1.0))


@pytest.mark.parametrize("d", [1, 3, D])
def test_p_values_of_fresh_rows_are_uniform(d: int) -> None:
    rng = np.random.default_rng(d)
    calibration = calibration_of(*one_entity(gaussian_surprise(rng, 20_000, d)), 1)
    fresh = p_values(calibration, *one_entity(gaussian_surprise(rng, 3000, d)))
    assert kstest(fresh.p_value, "uniform").pvalue > 0.001


@pytest.mark.parametrize("rows_each", [40, 400])
@pytest.mark.parametrize("missing", [0, 2])
def test_p_values_are_uniform_over_a_fleet_whose_entities_differ(rows_each: int, missing: int) -> None:
    rng = np.random.default_rng(0)
    n_entities = 16_000 // rows_each
    location, scale = rng.normal(0, 0.3, n_entities), rng.uniform(0.8, 1.25, n_entities)

    def drawn(n: int) -> tuple[FloatArray, IntArray]:
        model = np.repeat(np.arange(n_entities), n)
        return location[model] + scale[model] * gaussian_surprise(rng, model.size), model

    calibration = calibration_of(*drawn(rows_each), n_entities + 1, examples=4000)
    surprise, model = drawn(20_000 // n_entities)
    # What is halved where features are missing is halved in the rows that they are compared with.
    fresh = p_values(calibration, surprise / (2 if missing else 1), model, missing=missing)
    for level in (0.01, 0.05, 0.2):
        suspicious = fresh.p_value <= level
        assert np.mean(suspicious) == pytest.approx(level, rel=0.4)
        # Where hardly a calibration row lies the tail errs towards normal.
        assert np.mean(suspicious & fresh.too_likely) <= 1.5 * 0.05 * level
    assert np.mean(suspicious & fresh.too_likely) == pytest.approx(0.05 * level, rel=0.5)


def test_rows_at_the_mode_of_many_features_are_improbable_for_being_too_likely() -> None:
    calibration = calibration_of(*one_entity(gaussian_surprise(np.random.default_rng(0), 5000)), 1)
    one_sided = calibration.complete.p_value(calibration.moments.normalise(*one_entity([0.0])))
    assert one_sided > 0.99
    p_value, too_likely = p_values(calibration, *one_entity([0.0, 100.0, 15.0]))
    assert (p_value[:2] < 1e-3).all()
    assert p_value[2] > 0.4
    assert too_likely[:2].tolist() == [True, False]


def test_one_record_of_one_feature_is_never_improbable_for_being_typical() -> None:
    calibration = calibration_of(*one_entity(gaussian_surprise(np.random.default_rng(0), 5000, 1)), 1)
    assert p_values(calibration, *one_entity([0.0])).p_value > 0.02


def test_what_lies_beyond_the_deepest_row_is_not_called_rarer_than_it_is() -> None:
    far = 5.0
    truth = chi2.cdf(2 * far, D)
    estimates = []
    for seed in range(5):
        calibration = calibration_of(*one_entity(gaussian_surprise(np.random.default_rng(seed), 5000)), 1)
        estimates.append(p_values(calibration, *one_entity([far])).p_value[0] * 0.2)
    assert np.median(estimates) > truth


def test_p_value_falls_towards_both_ends_only() -> None:
    calibration = calibration_of(*one_entity(gaussian_surprise(np.random.default_rng(1), 5000)), 1)
    p_value, too_likely = p_values(calibration, *one_entity(np.linspace(-20, 80, 5000)))
    top = int(np.argmax(p_value))
    assert (np.diff(p_value[:top]) >= 0).all()
    assert (np.diff(p_value[top:]) <= 0).all()
    assert (np.diff(too_likely.astype(int)) <= 0).all()


@pytest.mark.parametrize("missing", [0, 2])
def test_a_constant_entity_is_not_rare_in_a_fleet_without_another(missing: int) -> None:
    rng = np.random.default_rng(2)
    n_entities, n = 1000, 120
    model = np.repeat(np.arange(n_entities), n)
    surprise = gaussian_surprise(rng, model.size)
    surprise[model == 7] = 0.5
    calibration = calibration_of(surprise, model, n_entities + 1, examples=4000)
    half = 2 if missing else 1
    p_value = p_values(calibration, np.array([0.5 / half]), np.array([7]), missing=missing).p_value
    assert p_value > 0.05
    # Of another entity the same row is rare.
    assert p_values(calibration, np.array([0.5 / half]), np.array([8]), missing=missing).p_value < 0.02


@pytest.mark.parametrize("share", [0.03, 0.4, 1.0])
@pytest.mark.parametrize("n_entities", [1, 100])
def test_an_idle_stretch_that_occurred_in_training_is_not_anomalous(share: float, n_entities: int) -> None:
    rng = np.random.default_rng(3)
    n = 600
    model = np.repeat(np.arange(n_entities), n)
    surprise = gaussian_surprise(rng, model.size)
    surprise[: int(share * n)] = 0.5
    calibration = calibration_of(surprise, model, n_entities + 1)
    # Equal up to rounding, and to what a moving mean forgets.
    idle = np.array([0.5, 0.5 - 1e-12, 0.5 - 5e-5])
    assert (p_values(calibration, idle, np.zeros(3, dtype=np.int64)).p_value > 0.05).all()


def test_a_constant_stream_has_ordinary_p_values() -> None:
    calibration = calibration_of(*one_entity(np.full(300, -4.0)), 1)
    assert p_values(calibration, *one_entity([-4.0, -4.0 - 1e-9])).p_value.tolist() == [1.0, 1.0]


def test_a_constant_stream_makes_nothing_certain_of_a_tenth_of_a_nat() -> None:
    calibration = calibration_of(*one_entity(np.full(300, -4.0)), 1)
    assert p_values(calibration, *one_entity([-4.1])).p_value > 1 / 1000


def test_surprise_without_bound_counts_on_its_side_and_unscorable_rows_stay_unscored() -> None:
    calibration = calibration_of(*one_entity(gaussian_surprise(np.random.default_rng(4), 2000)), 1)
    p_value, too_likely = p_values(calibration, *one_entity([np.inf, -np.inf, np.nan]))
    assert (p_value[:2] > 0).all()
    assert (p_value[:2] < 1e-6).all()
    assert too_likely.tolist() == [False, True, False]
    assert np.isnan(p_value[2])


def test_held_out_rows_outside_the_support_do_not_spoil_the_lower_side() -> None:
    rng = np.random.default_rng(5)
    surprise = gaussian_surprise(rng, 3000)
    surprise[:90] = np.inf
    calibration = calibration_of(*one_entity(surprise), 1)
    assert p_values(calibration, *one_entity([0.0])).p_value < 1e-3
    none = calibration_of(*one_entity(np.full(50, np.inf)), 1)
    assert (p_values(none, *one_entity([0.0, np.inf])).p_value > 0.01).all()


def test_arrays_survive_exactly_and_a_bundle_without_a_lower_side_is_one_sided() -> None:
    rng = np.random.default_rng(6)
    surprise, model = gaussian_surprise(rng, 3000), rng.integers(0, 5, 3000)
    calibration = calibration_of(surprise, model, 6)
    rows, of_rows = gaussian_surprise(rng, 400), rng.integers(0, 6, 400)
    arrays = calibration.arrays()
    again = Calibration.from_arrays(arrays, calibration.surprise_of_pattern)
    for missing in (0, 2):
        for left, right in zip(
            p_values(calibration, rows, of_rows, missing=missing),
            p_values(again, rows, of_rows, missing=missing),
            strict=True,
        ):
            assert left.tobytes() == right.tobytes()
    upper_only = {name: array for name, array in arrays.items() if not name.startswith("lower_")}
    one_sided = Calibration.from_arrays(upper_only, calibration.surprise_of_pattern)
    p_value, too_likely = p_values(one_sided, rows, of_rows)
    common = calibration.moments.normalise(rows, of_rows)
    assert p_value.tobytes() == calibration.complete.p_value(common).tobytes()
    assert not too_likely.any()


@pytest.mark.parametrize("part", ["location", "scale", "reach", "surprise", "tail"])
def test_a_damaged_lower_side_is_refused(part: str) -> None:
    name = f"lower_{part}"
    arrays = calibration_of(*one_entity(gaussian_surprise(np.random.default_rng(7), 300)), 1).arrays()
    with pytest.raises(ValueError, match="calibration"):
        Calibration.from_arrays({**arrays, name: np.full_like(arrays[name], np.nan)}, NO_ROWS)
    with pytest.raises(KeyError, match=part):
        Calibration.from_arrays({other: arrays[other] for other in arrays if other != name}, NO_ROWS)


def test_neural_families_have_it_by_default_and_others_on_request() -> None:
    by_default = {name for name, family in FAMILIES.items() if is_on("auto", family.evidence)}
    assert by_default == {"vae", "rbm", "gan"}
    for family in FAMILIES.values():
        assert is_on("on", family.evidence)
        assert not is_on("off", family.evidence)
    assert get_args(Choice) == ("auto", "on", "off")


def collapsed(model: ScoringModel) -> FloatArray:
    """Rows that hardly vary, at the mean of what the density draws."""
    broad = records_like(model.density, 4000, np.random.default_rng(8))
    return np.asarray(broad.mean(axis=0) + 0.02 * (broad[:200] - broad.mean(axis=0)))


@pytest.mark.parametrize("family", [random_rbm(D, 3), random_vae(D, 1)], ids=lambda family: family.name)
def test_a_collapse_to_the_mean_that_the_one_sided_value_calls_normal_is_caught(
    family: Family,
) -> None:
    guarded, _ = scoring_model(family, records=5000)
    unguarded, _ = scoring_model(family, records=5000, typicality="off")
    rows = collapsed(guarded)
    assert (scores_of(detector(unguarded), rows).p_value[1:] > 0.5).all()
    assert (scores_of(detector(guarded), rows).p_value[1:] < 0.01).all()


def test_a_family_of_another_kind_has_it_on_request() -> None:
    assert scoring_model(gmm(), typicality="on")[0].members[0].calibration.lower is not None
    assert scoring_model(gmm())[0].members[0].calibration.lower is None
