"""Tests for detector.models.regression: coefficients and the usual value at an hour follow the entity."""

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.models.contract import Prediction
from detector.models.regression import BLOCK, N_REGRESSORS, RIDGE, RegressionPredictor

RNG = np.random.default_rng(4)
HOUR_S = 3600.0


def predictor(d: int = 1, last: float = 0.0) -> RegressionPredictor:
    coefficients = np.zeros((1, N_REGRESSORS, d))
    coefficients[:, 1] = last
    return RegressionPredictor(coefficients, np.ones((1, d)))


def scanned(x: FloatArray, own: RegressionPredictor, interval_s: float = 60.0) -> Prediction:
    time = interval_s * np.arange(len(x), dtype=np.float64)
    n, zero = np.array([len(x)]), np.zeros(1, dtype=np.int64)
    return own.scan(own.initial_state(1), x, time, n, zero)


def autoregression(n: int, first: float, second: float) -> FloatArray:
    x = np.zeros((n, 1))
    for t in range(2, n):
        x[t] = first * x[t - 1] + second * x[t - 2] + RNG.normal()
    return np.asarray(x / x.std())


def test_an_entity_never_seen_is_expected_as_the_bundle_says() -> None:
    x = RNG.normal(size=(BLOCK, 2))
    expected = scanned(x, predictor(2, last=0.7)).expected
    np.testing.assert_allclose(expected[1:], 0.7 * x[:-1])


def test_coefficients_become_those_of_the_entity() -> None:
    x = autoregression(6400, 0.5, 0.4)
    found = scanned(x, predictor()).expected
    ideal = 0.5 * x[1:-1] + 0.4 * x[:-2]
    late = slice(3200, None)
    assert np.sqrt(np.mean((found[2:] - ideal)[late] ** 2)) < 0.1


def test_it_is_ridge_regression_on_all_that_came_before() -> None:
    x = 0.3 * RNG.normal(size=(3 * BLOCK + 1, 1))
    found = scanned(x, predictor(last=0.5)).expected[-1, 0]
    last = np.concatenate([[0.0], x[:-2, 0]])
    before_last = np.concatenate([[0.0, x[0, 0]], x[:-3, 0]])
    usual = np.zeros(len(last))
    for start in range(BLOCK, 3 * BLOCK, BLOCK):
        usual[start : start + BLOCK] = _usual(x[:, 0], start)
    design = np.column_stack([np.ones(len(last)), last, before_last, usual])
    believed = np.array([0.0, 0.5, 0.0, 0.0])
    penalty = np.diag([1e-3, RIDGE, RIDGE, RIDGE])
    gram = design.T @ design + penalty
    coefficients = np.linalg.solve(gram, design.T @ x[:-1, 0] + penalty @ believed)
    now = np.array([1.0, x[-2, 0], x[-3, 0], _usual(x[:, 0], 3 * BLOCK)[0]])
    assert found == pytest.approx(float(now @ coefficients), rel=1e-6)


def _usual(x: FloatArray, start: int) -> FloatArray:
    """What is usual at the hours of a block's minutes, when the blocks before it are known."""
    value, known = np.zeros(48), np.zeros(48)
    for block in range(0, start, BLOCK):
        hours = np.arange(block, block + BLOCK) // 60
        for hour in np.unique(hours):
            own = x[block : block + BLOCK][hours == hour]
            rate = max(own.size / (known[hour] + own.size), 1 - 0.85**own.size)
            value[hour] += rate * (own.mean() - value[hour])
            known[hour] += own.size
    return np.asarray(value[np.arange(start, start + BLOCK) // 60])


def test_what_is_usual_at_an_hour_is_learnt() -> None:
    hours = np.arange(60 * 24)
    # Within the working days, Monday first.
    time = HOUR_S * (4.0 * 24 + hours + 2 * 24 * (hours // 120)).astype(np.float64)
    x = (np.where(hours % 24 == 7, 3.0, 0.0) + 0.1 * RNG.normal(size=len(hours)))[:, None]
    own, one = predictor(), np.array([len(x)])
    expected = own.scan(own.initial_state(1), x, time, one, np.zeros(1, dtype=np.int64)).expected[:, 0]
    late = hours > 30 * 24
    assert expected[late & (hours % 24 == 7)].mean() > 2.0
    assert abs(expected[late & (hours % 24 == 12)].mean()) < 0.3


def test_an_outlier_bends_nothing() -> None:
    x = autoregression(1280, 0.8, 0.0)
    spoilt = x.copy()
    spoilt[645] = 1e6
    calm, shaken = scanned(x, predictor()).expected, scanned(spoilt, predictor()).expected
    assert abs(calm - shaken)[700:].max() < 0.6


def test_a_missing_value_is_passed_over() -> None:
    x = RNG.normal(size=(10, 1))
    x[4] = np.nan
    expected = scanned(x, predictor(last=1.0)).expected
    np.testing.assert_array_equal(expected[[4, 5]], x[[3, 3]])
    assert expected[6] == x[5]


def test_arrays_that_do_not_fit_are_refused() -> None:
    good = predictor(2).arrays()
    for name, wrong in (("coefficients", np.zeros((1, 3, 2))), ("variance", np.zeros((1, 2)))):
        with pytest.raises(ValueError, match=name):
            RegressionPredictor.from_arrays({**good, name: wrong}, 2)
