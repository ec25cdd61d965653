"""Tests for detector.models.regression: coefficients and the usual value at an hour follow the entity."""

from dataclasses import replace

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.models.contract import Prediction
from detector.models.local_time import LocalTime
from detector.models.regression import BLOCK, N_REGRESSORS, RIDGE, RegressionPredictor

RNG = np.random.default_rng(4)
HOUR_S, DAY_S = 3600.0, 86_400.0


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
    """What is usual at the hours of a block's minutes: an hour is known with the block that ends after it."""
    value = np.zeros(48)
    hours = np.arange(start) // 60
    newest = hours[-1]
    for hour in range(newest):
        value[hour] = x[:start][hours == hour].mean()
    return np.asarray(value[np.arange(start, start + BLOCK) // 60])


def minutes_of_days(days: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Minutes of working days, Monday first: time, shape (N,), hour of the day, and a noisy day's values."""
    minute = np.arange(days * 1440.0)
    day = minute // 1440
    time = 4 * DAY_S + 60.0 * minute + 2 * DAY_S * (day // 5)
    hour = minute % 1440 / 60
    return time, hour, 3.0 * np.sin(2 * np.pi * hour / 24) + RNG.normal(size=len(minute))


def expected_at(time: FloatArray, x: FloatArray) -> FloatArray:
    own, n = predictor(), np.array([len(x)])
    found = own.scan(own.initial_state(1), x[:, None], time, n, np.zeros(1, dtype=np.int64))
    return found.expected[:, 0]


def test_an_incident_is_not_what_is_usual_at_its_hour_the_day_after() -> None:
    time, hour, x = minutes_of_days(9)
    day, at_ten = np.arange(len(x)) // 1440, (hour >= 10) & (hour < 11)
    incident = x + 6.0 * (at_ten & (day == 6))
    moved = expected_at(time, incident) - expected_at(time, x)
    assert abs(moved[(day == 7) & at_ten]).max() < 0.5
    assert abs(moved[(day == 8) & at_ten]).max() < 0.5


def test_a_day_that_has_changed_is_learnt_in_two_days() -> None:
    time, hour, x = minutes_of_days(9)
    day, at_ten = np.arange(len(x)) // 1440, (hour >= 10) & (hour < 11)
    changed = x + 6.0 * (at_ten & (day >= 5))
    moved = expected_at(time, changed) - expected_at(time, x)
    # Before a value of that hour has been seen.
    first = np.flatnonzero(at_ten & (np.roll(at_ten, 1) == 0))
    assert abs(moved[first[:7]]).max() < 0.5
    assert moved[first[7:]].min() > 2.0


def test_hours_are_those_of_the_clock() -> None:
    """5:45 ahead of UTC nothing else is expected than where UTC itself shows as much."""
    time, _, x = minutes_of_days(9)
    ahead = LocalTime(np.zeros(1), np.array([20_700.0]))
    own, n, zero = predictor(), np.array([len(x)]), np.zeros(1, dtype=np.int64)
    found = replace(own, local_time=ahead).scan(own.initial_state(1), x[:, None], time, n, zero)
    np.testing.assert_array_equal(found.expected[:, 0], expected_at(time + 20_700.0, x))
    assert (found.expected[:, 0] != expected_at(time, x)).any()


def test_what_comes_at_one_hour_only_is_usual_there() -> None:
    x = 3.0 + 0.1 * RNG.normal(size=(BLOCK + 1, 1))
    coefficients = np.zeros((1, N_REGRESSORS, 1))
    coefficients[:, 3] = 1.0
    own = RegressionPredictor(coefficients, np.ones((1, 1)))
    # Nothing was usual so far, so all of it was in the intercept, and is in both now.
    assert scanned(x, own, DAY_S).expected[-1, 0] == pytest.approx(6.0, abs=0.5)


@pytest.mark.parametrize("batch", [7, 130])
def test_hours_are_learnt_alike_wherever_batches_begin(batch: int) -> None:
    own, one, zero = predictor(2), np.array([1]), np.zeros(1, dtype=np.int64)
    time = np.cumsum(RNG.choice([0.5, 60.0, 600.0, DAY_S], p=[0.2, 0.6, 0.19, 0.01], size=2000))
    x = np.where(RNG.uniform(size=(2000, 2)) < 0.05, np.nan, RNG.normal(size=(2000, 2)))
    state = own.initial_state(1)
    for start in range(0, len(x), batch):
        part = slice(start, start + batch)
        state = own.scan(state, x[part], time[part], len(x[part]) * one, zero).rows
    np.testing.assert_array_equal(state, own.scan(own.initial_state(1), x, time, len(x) * one, zero).rows)


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


def test_what_has_drifted_far_is_expected_as_before() -> None:
    wave = np.sin(2 * np.pi * np.arange(6400) / 24)[:, None]
    near, far = (scanned(wave + drift, predictor(last=0.9)) for drift in (0.0, _drifted(6400, 40.0)))
    late = slice(4800, None)
    surprise_near = abs(wave - near.expected)[late].max()
    assert abs(wave + 40.0 - far.expected)[late].max() < 2.0 * surprise_near + 0.05


def _drifted(n: int, distance: float) -> FloatArray:
    return np.asarray(np.minimum(np.linspace(0.0, 2.0 * distance, n), distance)[:, None])


def test_after_a_far_incident_what_was_normal_is_expected_at_once() -> None:
    x = autoregression(2000, 0.9, 0.0)
    incident = x.copy()
    incident[1200:1500] += 15.0
    found = abs(incident - scanned(incident, predictor(last=0.9)).expected)
    assert found[1501:].max() < 1.3 * abs(x - scanned(x, predictor(last=0.9)).expected)[1501:].max()


@pytest.mark.parametrize("batch", [7, 130])
def test_far_values_count_alike_wherever_batches_begin(batch: int) -> None:
    own, one, zero = predictor(2, last=0.9), np.array([1]), np.zeros(1, dtype=np.int64)
    time = 60.0 * np.arange(2000, dtype=np.float64)
    x = _drifted(2000, 40.0) + RNG.normal(size=(2000, 2))
    x[900:1000] = 1e6
    state, expected = own.initial_state(1), []
    for start in range(0, len(x), batch):
        part = slice(start, start + batch)
        prediction = own.scan(state, x[part], time[part], len(x[part]) * one, zero)
        state = prediction.rows
        expected.append(prediction.expected)
    whole = own.scan(own.initial_state(1), x, time, len(x) * one, zero)
    np.testing.assert_array_equal(state, whole.rows)
    np.testing.assert_array_equal(np.vstack(expected), whole.expected)


def test_a_missing_value_is_passed_over() -> None:
    x = RNG.normal(size=(10, 1))
    x[4] = np.nan
    expected = scanned(x, predictor(last=1.0)).expected
    np.testing.assert_array_equal(expected[[4, 5]], x[[3, 3]])
    assert expected[6] == x[5]


def test_which_of_the_last_two_records_lacked_a_value_is_reported() -> None:
    x = RNG.normal(size=(9, 2))
    x[3, 0] = x[5:7, 0] = np.nan
    found = scanned(x, predictor(2)).past_missing
    lacked = np.isnan(x[:, 0])
    np.testing.assert_array_equal(found[1:, 0], lacked[:-1])
    np.testing.assert_array_equal(found[2:, 2], lacked[:-2])
    assert not found[:2].any()
    assert not found[:, [1, 3]].any()


def test_a_hidden_value_is_passed_over_and_two_are_those_of_long_before() -> None:
    n, one, zero = 150, np.array([1]), np.array([0])
    x, time = RNG.normal(size=(n, 2)), 60.0 * np.arange(float(n))
    coefficients = np.zeros((1, N_REGRESSORS, 2))
    coefficients[:, 1:3] = [[0.5], [0.25]]
    own = RegressionPredictor(coefficients, np.ones((1, 2)))
    rows = own.scan(own.initial_state(1), x, time, np.array([n]), zero).rows

    def expected(rows: FloatArray) -> FloatArray:
        return np.asarray(own.scan(rows, x[:1], time[-1:], one, zero).expected[0])

    long_before = own.hide(rows, np.array([True, False, True, False]))
    moved = expected(long_before) - expected(rows)
    assert moved[1] == 0.0
    last, before_last = x[[BLOCK - 2, BLOCK - 3], 0]
    alike = rows.copy()
    alike[0, 0], alike[0, 2] = last, before_last
    np.testing.assert_array_equal(expected(long_before), expected(alike))
    passed_over = expected(own.hide(rows, np.array([True, False, False, False])))
    alike[0, 0] = alike[0, 2] = x[-2, 0]
    assert passed_over[0] == expected(alike)[0]


def test_states_in_bundles_of_before_values_could_be_hidden_expect_the_same() -> None:
    x, own, one, zero = RNG.normal(size=(150, 3)), predictor(3, last=0.5), np.array([1]), np.array([0])
    rows = scanned(x, own).rows
    # As then: seen and time came after the parts of all features.
    width = own.state_size - 2 - 6 * 3
    before = np.hstack([rows[:, : width - 2], rows[:, -2:]])
    read = own.initial_state(1)
    read[:, : before.shape[1]] = before

    def expected(rows: FloatArray) -> FloatArray:
        return np.asarray(own.scan(rows, x[:1], np.array([9000.0]), one, zero).expected[0])

    np.testing.assert_array_equal(expected(read), expected(rows))
    hidden = expected(own.hide(read, np.ones(6, dtype=bool)))
    rows[0, :3] = rows[0, 3:6] = 0.0
    np.testing.assert_array_equal(hidden, expected(rows))


def test_arrays_that_do_not_fit_are_refused() -> None:
    good = predictor(2).arrays()
    for name, wrong in (("coefficients", np.zeros((1, 3, 2))), ("variance", np.zeros((1, 2)))):
        with pytest.raises(ValueError, match=name):
            RegressionPredictor.from_arrays({**good, name: wrong}, 2)
