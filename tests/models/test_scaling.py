"""Tests for detector.models.scaling."""

import numpy as np
import pytest

from detector.models.discrete_columns import DiscreteColumns
from detector.models.kinds import Kind
from detector.models.scaling import Scaling, fit_scaling, taken_for_constant
from detector.models.vocabulary import Vocabulary, category_code


def test_each_entity_has_its_own_location_and_scale_and_strangers_the_pooled_ones() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(10, 1, (5000, 1)), rng.normal(-10, 5, (5000, 1))])
    scaling = fit_scaling(x, np.repeat([0, 1], 5000), 3)
    np.testing.assert_allclose(scaling.location[:, 0], [10, -10, 0], atol=0.3)
    np.testing.assert_allclose(scaling.scale[:, 0], [1, 5, x.std()], rtol=0.05)


def test_missing_values_do_not_count() -> None:
    x = np.array([[1.0], [np.nan], [3.0]])
    scaling = fit_scaling(x, np.zeros(3, dtype=np.int64), 2)
    assert scaling.location[0, 0] == 2.0
    assert scaling.scale[0, 0] == 1.0


def test_an_error_of_measurement_shapes_nothing() -> None:
    x = np.random.default_rng(0).normal(50.0, 2.0, (300, 2))
    model = np.repeat([0, 1], 150)
    without = x.copy()
    without[[20, 200], [0, 1]] = np.nan
    x[[20, 200], [0, 1]] = [1e300, -1e7]
    scaling, expected = fit_scaling(x, model, 3), fit_scaling(without, model, 3)
    np.testing.assert_array_equal(scaling.location, expected.location)
    np.testing.assert_array_equal(scaling.scale, expected.scale)


def test_rare_events_and_entities_of_another_size_are_no_errors_of_measurement() -> None:
    errors = np.zeros((1000, 1))
    errors[::300] = 5.0
    assert fit_scaling(errors, np.zeros(1000, dtype=np.int64), 2).location[0, 0] == pytest.approx(0.02)
    sizes = np.concatenate([np.random.default_rng(0).normal(size=(5000, 1)), np.full((20, 1), 1e9)])
    scaling = fit_scaling(sizes, np.repeat([0, 1], [5000, 20]), 3)
    assert scaling.location[1, 0] == 1e9


@pytest.mark.parametrize("exponent", [-1000, 500, 1020])
def test_units_change_no_digit_however_large_or_small(exponent: int) -> None:
    x = np.random.default_rng(0).normal(3.0, 1.0, (200, 2))
    plain, scaled = (fit_scaling(v, np.repeat([0, 1], 100), 3) for v in (x, np.ldexp(x, exponent)))
    np.testing.assert_array_equal(scaled.location, np.ldexp(plain.location, exponent))
    if exponent < 1000:
        np.testing.assert_array_equal(scaled.scale, np.ldexp(plain.scale, exponent))


def test_scale_of_the_smallest_and_of_the_largest_floats_is_positive_and_finite() -> None:
    sign = np.random.default_rng(0).choice([-1.0, 1.0], size=(200, 1))
    x = np.hstack([5e-324 * sign, 1.7e308 * sign, np.full((200, 1), 5e-324)])
    scaling = fit_scaling(x, np.zeros(200, dtype=np.int64), 2)
    assert Scaling.from_arrays(scaling.arrays()).scale.min() > 0
    assert np.isfinite(scaling.standardise(x, np.zeros(200, dtype=np.int64))).all()


def test_constant_features_surprise_finitely_when_they_change() -> None:
    x = np.column_stack([np.full(100, 50.0), np.zeros(100), np.linspace(0, 1, 100)])
    scaling = fit_scaling(x, np.zeros(100, dtype=np.int64), 2)
    assert scaling.scale[0, 0] == pytest.approx(0.5)
    assert scaling.scale[0, 1] == pytest.approx(np.linspace(0, 1, 100).std())


def test_what_was_always_0_is_not_measured_by_the_bytes_beside_it() -> None:
    x = np.column_stack([np.zeros(100), np.random.default_rng(0).normal(4e8, 5e7, 100)])
    assert fit_scaling(x, np.zeros(100, dtype=np.int64), 2).scale[:, 0].tolist() == [1.0, 1.0]


def test_constant_feature_of_one_entity_borrows_the_scale_of_the_fleet() -> None:
    x = np.concatenate([np.full((100, 1), 7.0), np.random.default_rng(0).normal(7, 2, (100, 1))])
    scaling = fit_scaling(x, np.repeat([0, 1], 100), 3)
    assert scaling.scale[0, 0] == scaling.scale[2, 0]


def test_feature_that_an_entity_never_sent_is_known_from_the_fleet() -> None:
    x = np.concatenate([np.full((50, 1), np.nan), np.random.default_rng(0).normal(7, 2, (50, 1))])
    scaling = fit_scaling(x, np.repeat([0, 1], 50), 3)
    assert scaling.location[0, 0] == scaling.location[2, 0]


def test_values_beyond_all_bounds_stay_finite_and_missing_stays_missing() -> None:
    scaling = Scaling(np.zeros((1, 1)), np.full((1, 1), 1e-300))
    z = scaling.standardise(np.array([[1e308], [-1e308], [np.nan]]), np.zeros(3, dtype=np.int64))
    assert z[:2].ravel().tolist() == [1e8, -1e8]
    assert np.isnan(z[2, 0])


def test_scale_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="scale must be positive"):
        Scaling.from_arrays({"location": np.zeros((1, 2)), "scale": np.zeros((1, 2))})


def test_discrete_features_are_neither_shifted_nor_scaled_and_the_others_as_without_them() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.poisson(4, 300), rng.normal(50, 9, 300), np.full(300, category_code("a"))])
    discrete = DiscreteColumns(["count", "continuous", "categorical"], [None, None, Vocabulary(["b", "a"])])
    model = np.repeat([0, 1], 150)
    scaling, plain = fit_scaling(x, model, 3, discrete), fit_scaling(x[:, 1:2], model, 3)
    z = scaling.standardise(x, model)
    np.testing.assert_array_equal(z[:, 0], x[:, 0])
    np.testing.assert_array_equal(z[:, 1:2], plain.standardise(x[:, 1:2], model))
    np.testing.assert_array_equal(z[:, 2], np.ones(300))
    again = Scaling.from_arrays(scaling.arrays(), discrete)
    np.testing.assert_array_equal(again.standardise(x, model), z)


def test_discrete_features_alone_need_no_scale() -> None:
    x = np.array([[1.0], [0.0], [np.nan]])
    scaling = fit_scaling(x, np.zeros(3, dtype=np.int64), 2, DiscreteColumns(["binary"], [None]))
    np.testing.assert_array_equal(scaling.standardise(x, np.zeros(3, dtype=np.int64)), x)


@pytest.mark.parametrize(
    ("kinds", "message"),
    [(["count"], "1 kinds for 2 features"), (["continuous", "count"], "must have location 0 and scale 1")],
)
def test_scaling_that_contradicts_the_kinds_is_refused(kinds: list[Kind], message: str) -> None:
    arrays = {"location": np.zeros((1, 2)), "scale": np.full((1, 2), 2.0)}
    with pytest.raises(ValueError, match=message):
        Scaling.from_arrays(arrays, DiscreteColumns(kinds, [None] * len(kinds)))


@pytest.mark.parametrize("size", [0.3, 5.0, 1e12])
def test_rounding_to_32_bits_is_no_variation(size: float) -> None:
    rng = np.random.default_rng(0)
    rounded = (size * (1 + 1e-8 * rng.normal(size=(500, 1)))).astype(np.float32).astype(np.float64)
    rare = np.where(rng.uniform(size=(500, 1)) < 0.01, size * (1 + 5e-7), size)
    for x in (rounded, rare):
        scale = fit_scaling(x, np.zeros(500, dtype=np.int64), 2).scale
        np.testing.assert_allclose(scale, 0.01 * size, rtol=1e-5)


def test_small_variation_of_a_large_value_is_kept() -> None:
    x = 1e5 + np.random.default_rng(0).normal(size=(500, 1))
    assert fit_scaling(x, np.zeros(500, dtype=np.int64), 2).scale[0, 0] == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("size", [1e8, 1e10])
def test_a_small_variation_of_values_of_64_bits_is_kept(size: float) -> None:
    noise = np.random.default_rng(0).normal(size=(500, 1))
    for x in (size + noise, size + np.rint(noise)):
        scale = fit_scaling(x, np.zeros(500, dtype=np.int64), 2).scale
        np.testing.assert_allclose(scale, 1.0, rtol=0.1)
        assert not taken_for_constant(x).any()


def test_a_constant_is_one_however_long_it_lasts() -> None:
    x = np.full((1_000_000, 2), [0.1, 1234.56789])
    assert taken_for_constant(x).all()
    scaling = fit_scaling(x, np.zeros(len(x), dtype=np.int64), 2)
    np.testing.assert_allclose(scaling.scale[0], [0.001, 12.3456789])
