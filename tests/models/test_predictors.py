"""Tests for detector.models.predictors."""

import numpy as np
import pytest

from detector.models.predictors import (
    PREDICTORS,
    AutoregressivePredictor,
    LastPredictor,
    NoPredictor,
    predictor_from_arrays,
)
from detector.training.fit_predictor import fit_predictor

LENGTHS = np.array([3, 2])
MODEL = np.array([0, 1])


def autoregressive(seed: int = 0, d: int = 4, models: int = 2) -> AutoregressivePredictor:
    rng = np.random.default_rng(seed)
    return AutoregressivePredictor(rng.normal(size=(models, d, d)), rng.normal(size=(models, d)))


def test_none_expects_the_mean() -> None:
    predictor = NoPredictor(2)
    prediction = predictor.scan(predictor.initial_state(2), np.ones((5, 2)), LENGTHS, MODEL)
    assert not prediction.expected.any()
    assert not prediction.past_missing.any()


def test_last_expects_the_record_before_within_the_entity() -> None:
    predictor = LastPredictor(1)
    x = np.array([[1.0], [2], [3], [10], [20]])
    prediction = predictor.scan(np.array([[0.5], [np.nan]]), x, LENGTHS, MODEL)
    assert prediction.expected.ravel().tolist() == [0.5, 1, 2, 0, 10]
    assert prediction.past_missing.ravel().tolist() == [False, False, False, True, False]
    assert prediction.rows.ravel().tolist() == [3, 20]


def test_autoregressive_is_linear_in_the_record_before_with_the_entitys_own_coefficients() -> None:
    predictor = autoregressive()
    rng = np.random.default_rng(1)
    x, before = rng.normal(size=(5, 4)), rng.normal(size=(2, 4))
    prediction = predictor.scan(before, x, LENGTHS, MODEL)
    past = np.vstack([before[0], x[0:2], before[1], x[3]])
    for row, m in enumerate([0, 0, 0, 1, 1]):
        by_hand = predictor.intercept[m] + past[row] @ predictor.coefficients[m]
        np.testing.assert_allclose(prediction.expected[row], by_hand)


def test_missing_past_value_counts_as_the_mean_and_is_reported() -> None:
    predictor = autoregressive(models=1)
    x = np.random.default_rng(1).normal(size=(2, 4))
    x[0, 2] = np.nan
    prediction = predictor.scan(predictor.initial_state(1), x, np.array([2]), np.array([0]))
    filled = np.nan_to_num(x[0])
    np.testing.assert_allclose(
        prediction.expected[1], predictor.intercept[0] + filled @ predictor.coefficients[0]
    )
    assert prediction.past_missing[1].tolist() == [False, False, True, False]


@pytest.mark.parametrize("rows", [1, 2, 7, 200])
def test_number_of_rows_changes_no_bit(rows: int) -> None:
    predictor = autoregressive(d=19)
    rng = np.random.default_rng(2)
    x, before = rng.normal(size=(200, 19)), rng.normal(size=(200, 19))
    ones, model = np.ones(200, dtype=np.int64), rng.integers(0, 2, 200)
    whole = predictor.scan(before, x, ones, model).expected
    part = predictor.scan(before[:rows], x[:rows], ones[:rows], model[:rows]).expected
    np.testing.assert_array_equal(part, whole[:rows])


@pytest.mark.parametrize("name", PREDICTORS)
def test_round_trip_is_exact(name: str) -> None:
    z = np.random.default_rng(0).normal(size=(300, 3))
    predictor = fit_predictor(name, z, np.array([300]), np.array([0]), 2)
    again = predictor_from_arrays(name, predictor.arrays(), 3)
    one, zero = np.array([300]), np.array([0])
    np.testing.assert_array_equal(
        predictor.scan(predictor.initial_state(1), z, one, zero).expected,
        again.scan(again.initial_state(1), z, one, zero).expected,
    )


def test_fitted_coefficients_are_those_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([[0.6, 0.2], [-0.3, 0.5]])
    z = np.zeros((20_000, 2))
    for t in range(1, len(z)):
        z[t] = z[t - 1] @ truth + 0.5 * rng.normal(size=2)
    fitted = fit_predictor("autoregressive", z, np.array([20_000]), np.array([0]), 2)
    assert isinstance(fitted, AutoregressivePredictor)
    np.testing.assert_allclose(fitted.coefficients[0], truth, atol=0.03)
    np.testing.assert_allclose(fitted.coefficients[1], truth, atol=0.03)


def test_entity_with_few_records_keeps_near_the_pooled_coefficients() -> None:
    rng = np.random.default_rng(0)
    many = np.zeros((5000, 1))
    for t in range(1, 5000):
        many[t] = 0.9 * many[t - 1] + rng.normal()
    few = rng.normal(size=(4, 1))
    fitted = fit_predictor("autoregressive", np.vstack([many, few]), np.array([5000, 4]), np.array([0, 1]), 3)
    assert isinstance(fitted, AutoregressivePredictor)
    assert abs(fitted.coefficients[1, 0, 0] - 0.9) < 0.4


def test_unknown_predictor_is_named() -> None:
    with pytest.raises(ValueError, match="no predictor is called 'prophet'"):
        predictor_from_arrays("prophet", {}, 2)


def test_coefficients_of_the_wrong_shape_are_refused() -> None:
    arrays = autoregressive(d=4).arrays()
    with pytest.raises(ValueError, match=r"must be \(M, 3\)"):
        predictor_from_arrays("autoregressive", arrays, 3)
