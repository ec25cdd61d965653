"""Tests for detector.models.predictors."""

import tracemalloc

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.models.contract import Arrays, Predictor
from detector.models.cyclic import CyclicPredictor
from detector.models.ewma import EwmaPredictor
from detector.models.predictors import (
    PREDICTORS,
    AutoregressivePredictor,
    LastPredictor,
    NoPredictor,
    predict,
    predictor_from_arrays,
)
from detector.models.regression import N_REGRESSORS, RegressionPredictor
from detector.models.seasonal import BINS_PER_DAY, DAY_S, N_BINS, SeasonalPredictor, season_of
from detector.training.fit_predictor import fit_predictor
from tests.made import unbounded

LENGTHS = np.array([3, 2])
MODEL = np.array([0, 1])
TIME = np.arange(5.0)


def autoregressive(seed: int = 0, d: int = 4, models: int = 2) -> AutoregressivePredictor:
    rng = np.random.default_rng(seed)
    return unbounded(rng.normal(size=(models, d, d)), rng.normal(size=(models, d)))


def at_mean(past: FloatArray, d: int) -> FloatArray:
    """States of an autoregression over d features, whose level is the training mean."""
    return np.hstack([past, np.zeros((len(past), d))])


def test_none_expects_the_mean() -> None:
    predictor = NoPredictor(2)
    prediction = predictor.scan(predictor.initial_state(2), np.ones((5, 2)), TIME, LENGTHS, MODEL)
    assert not prediction.expected.any()
    assert not prediction.past_missing.any()


def test_last_expects_the_record_before_within_the_entity() -> None:
    predictor = LastPredictor(1)
    x = np.array([[1.0], [2], [3], [10], [20]])
    prediction = predictor.scan(np.array([[0.5], [np.nan]]), x, TIME, LENGTHS, MODEL)
    assert prediction.expected.ravel().tolist() == [0.5, 1, 2, 0, 10]
    assert prediction.past_missing.ravel().tolist() == [False, False, False, True, False]
    assert prediction.rows.ravel().tolist() == [3, 20]


def test_autoregressive_is_linear_in_the_record_before_with_the_entitys_own_coefficients() -> None:
    predictor = autoregressive()
    rng = np.random.default_rng(1)
    x, before = rng.normal(size=(5, 4)), rng.normal(size=(2, 4))
    prediction = predictor.scan(at_mean(before, 4), x, TIME, LENGTHS, MODEL)
    past = np.vstack([before[0], x[0:2], before[1], x[3]])
    for row, m in enumerate([0, 0, 0, 1, 1]):
        by_hand = predictor.intercept[m] + past[row] @ predictor.coefficients[m]
        np.testing.assert_allclose(prediction.expected[row], by_hand)


def test_columns_that_a_predictor_does_not_know_are_expected_at_0_and_move_no_other() -> None:
    predictor, columns = autoregressive(d=2), np.array([0, 2])
    rng = np.random.default_rng(1)
    x, before = rng.normal(size=(5, 3)), at_mean(rng.normal(size=(2, 2)), 2)
    x[1, 1] = np.nan
    prediction = predict(predictor, columns, before, x, TIME, LENGTHS, MODEL)
    alone = predictor.scan(before, x[:, columns], TIME, LENGTHS, MODEL)
    np.testing.assert_array_equal(prediction.expected[:, columns], alone.expected)
    assert not prediction.expected[:, 1].any()
    assert prediction.rows.tolist() == alone.rows.tolist()
    assert not prediction.past_missing.any()


def test_missing_past_value_counts_as_the_mean_and_is_reported() -> None:
    predictor = autoregressive(models=1)
    x = np.random.default_rng(1).normal(size=(2, 4))
    x[0, 2] = np.nan
    prediction = predictor.scan(predictor.initial_state(1), x, TIME[:2], np.array([2]), np.array([0]))
    filled = np.nan_to_num(x[0])
    np.testing.assert_allclose(
        prediction.expected[1], predictor.intercept[0] + filled @ predictor.coefficients[0]
    )
    assert prediction.past_missing[1].tolist() == [False, False, True, False]


@pytest.mark.parametrize("rows", [1, 2, 7, 200])
def test_number_of_rows_changes_no_bit(rows: int) -> None:
    predictor = autoregressive(d=19)
    rng = np.random.default_rng(2)
    x, before = rng.normal(size=(200, 19)), at_mean(rng.normal(size=(200, 19)), 19)
    time = np.arange(200.0)
    ones, model = np.ones(200, dtype=np.int64), rng.integers(0, 2, 200)
    whole = predictor.scan(before, x, time, ones, model).expected
    part = predictor.scan(before[:rows], x[:rows], time[:rows], ones[:rows], model[:rows]).expected
    np.testing.assert_array_equal(part, whole[:rows])


@pytest.mark.parametrize("models", [1, 3, 100])
def test_wide_coefficients_are_not_copied_for_every_row_and_no_bit_changes(models: int) -> None:
    d, n, rng = 250, 100, np.random.default_rng(6)
    predictor, of_row = autoregressive(d=d, models=models), np.arange(n) % models
    x, time, ones = rng.normal(size=(n, d)), np.zeros(n), np.ones(n, dtype=np.int64)
    state = rng.normal(size=(n, 2 * d))
    tracemalloc.start()
    together = predictor.scan(state, x, time, ones, of_row).expected
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * predictor.coefficients[0].nbytes
    for i in range(0, n, 9):
        row = slice(i, i + 1)
        alone = predictor.scan(state[row], x[row], time[row], ones[row], of_row[row]).expected
        np.testing.assert_array_equal(together[row], alone)


@pytest.mark.parametrize("name", PREDICTORS)
def test_round_trip_is_exact(name: str) -> None:
    z, time = np.random.default_rng(0).normal(size=(300, 3)), 900.0 * np.arange(300.0)
    z += 2.0 * np.sin(2 * np.pi * np.arange(300) / 20)[:, None]
    predictor = fit_predictor(name, z, time, np.array([300]), np.array([0]), 2)
    again = predictor_from_arrays(name, predictor.arrays(), 3)
    one, zero = np.array([300]), np.array([0])
    np.testing.assert_array_equal(
        predictor.scan(predictor.initial_state(1), z, time, one, zero).expected,
        again.scan(again.initial_state(1), z, time, one, zero).expected,
    )


def test_fitted_coefficients_are_those_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([[0.6, 0.2], [-0.3, 0.5]])
    z = np.zeros((20_000, 2))
    for t in range(1, len(z)):
        z[t] = z[t - 1] @ truth + 0.5 * rng.normal(size=2)
    fitted = fit_predictor("autoregressive", z, np.arange(20_000.0), np.array([20_000]), np.array([0]), 2)
    assert isinstance(fitted, AutoregressivePredictor)
    np.testing.assert_allclose(fitted.coefficients[0], truth, atol=0.03)
    np.testing.assert_allclose(fitted.coefficients[1], truth, atol=0.03)


def test_entity_with_few_records_keeps_near_the_pooled_coefficients() -> None:
    rng = np.random.default_rng(0)
    many = np.zeros((5000, 1))
    for t in range(1, 5000):
        many[t] = 0.9 * many[t - 1] + rng.normal()
    few = rng.normal(size=(4, 1))
    time = np.arange(5004.0)
    fitted = fit_predictor(
        "autoregressive", np.vstack([many, few]), time, np.array([5000, 4]), np.array([0, 1]), 3
    )
    assert isinstance(fitted, AutoregressivePredictor)
    assert abs(fitted.coefficients[1, 0, 0] - 0.9) < 0.4


def test_unknown_predictor_is_named() -> None:
    with pytest.raises(ValueError, match="no predictor is called 'prophet'"):
        predictor_from_arrays("prophet", {}, 2)


def test_coefficients_of_the_wrong_shape_are_refused() -> None:
    arrays = autoregressive(d=4).arrays()
    with pytest.raises(ValueError, match=r"must be \(M, 3\)"):
        predictor_from_arrays("autoregressive", arrays, 3)


def test_coefficients_that_are_no_whole_number_of_lags_are_refused() -> None:
    ends = {"lowest": np.zeros((1, 3)), "highest": np.zeros((1, 3))}
    arrays = {"coefficients": np.zeros((1, 5, 3)), "intercept": np.zeros((1, 3)), **ends}
    with pytest.raises(ValueError, match=r"must be \(1, p \* 3, 3\)"):
        predictor_from_arrays("autoregressive", arrays, 3)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_autoregressive_of_a_higher_order_leans_on_that_many_records(order: int) -> None:
    rng = np.random.default_rng(order)
    d = 2
    predictor = unbounded(rng.normal(size=(2, order * d, d)), rng.normal(size=(2, d)))
    x, before = rng.normal(size=(5, d)), rng.normal(size=(2, order * d))
    x[1, 0] = np.nan
    prediction = predictor.scan(at_mean(before, d), x, TIME, LENGTHS, MODEL)
    for e, (start, n) in enumerate([(0, 3), (3, 2)]):
        oldest_first = np.vstack([before[e].reshape(order, d)[::-1], x[start : start + n]])
        for i in range(n):
            past = oldest_first[i : i + order][::-1].ravel()
            by_hand = predictor.intercept[e] + np.nan_to_num(past) @ predictor.coefficients[e]
            np.testing.assert_allclose(prediction.expected[start + i], by_hand)
            np.testing.assert_array_equal(prediction.past_missing[start + i], np.isnan(past))
        np.testing.assert_array_equal(prediction.rows[e, :-d], oldest_first[n:][::-1].ravel())


def bounded() -> AutoregressivePredictor:
    """The next record is expected where the last one was, between -2 and 3."""
    return AutoregressivePredictor(
        np.eye(1)[None], np.zeros((1, 1)), np.full((1, 1), -2.0), np.full((1, 1), 3.0)
    )


def expected_by(predictor: AutoregressivePredictor, x: list[float]) -> FloatArray:
    n = len(x)
    rows = np.array(x)[:, None]
    state = predictor.initial_state(1)
    return predictor.scan(state, rows, np.arange(float(n)), np.array([n]), np.array([0])).expected[:, 0]


def test_a_past_value_out_of_the_range_of_training_counts_as_the_end_of_it() -> None:
    found = expected_by(bounded(), [1.0, 30.0, -30.0, np.nan, 2.0, 0.0])
    np.testing.assert_allclose(found, [0.0, 1.0, 3.0, -2.0, 0.0, 2.0], atol=0.05)


def test_the_range_goes_with_an_entity_whose_level_has_slowly_moved() -> None:
    drifting = [*np.linspace(0.0, 10.0, 20_000), 10.0, 40.0, 10.0]
    found = expected_by(bounded(), drifting)
    assert found[-3] == pytest.approx(10.0, abs=0.01)
    # No farther than the range is wide.
    assert 10.0 < found[-1] < 13.0


def test_an_absurd_value_hardly_moves_the_level() -> None:
    calm = [0.0] * 10
    found = expected_by(bounded(), [*calm, 1e12, *calm, 5.0, 0.0])
    assert found[-1] == pytest.approx(3.0, abs=0.03)


def test_the_range_is_that_of_an_entitys_own_training_records_and_wider_the_fewer_these_are() -> None:
    rng = np.random.default_rng(3)
    z = np.concatenate([rng.uniform(-1.0, 1.0, 500), rng.uniform(-3.0, 2.0, 500)])[:, None]
    fitted = fit_predictor("autoregressive", z, np.arange(1000.0), np.array([500, 500]), np.array([0, 1]), 3)
    assert isinstance(fitted, AutoregressivePredictor)
    for m, own in enumerate((z[:500], z[500:], z)):
        beyond = (own.max() - own.min()) * 1000 / len(own)
        np.testing.assert_allclose(fitted.lowest[m], own.min() - beyond)
        np.testing.assert_allclose(fitted.highest[m], own.max() + beyond)


def test_a_range_that_leaves_out_the_training_mean_is_refused() -> None:
    arrays = bounded().arrays() | {"lowest": np.full((1, 1), 0.5)}
    with pytest.raises(ValueError, match="with 0 between"):
        predictor_from_arrays("autoregressive", arrays, 1)


def test_fitted_coefficients_of_order_two_are_those_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    z = np.zeros((20_000, 1))
    for t in range(2, len(z)):
        z[t] = 0.5 * z[t - 1] + 0.3 * z[t - 2] + rng.normal()
    time, lengths = np.arange(20_000.0), np.array([20_000])
    fitted = fit_predictor("autoregressive", z, time, lengths, np.array([0]), 2, order=2)
    assert isinstance(fitted, AutoregressivePredictor)
    assert fitted.warmup_records == 2
    np.testing.assert_allclose(fitted.coefficients[0].ravel(), [0.5, 0.3], atol=0.03)


@pytest.mark.parametrize("order", [0, 25])
def test_order_out_of_range_is_refused(order: int) -> None:
    with pytest.raises(ValueError, match=f"order {order} .* must be from 1 to 24"):
        fit_predictor(
            "autoregressive", np.ones((9, 1)), np.arange(9.0), np.array([9]), np.array([0]), 2, order
        )


def test_ewma_is_the_recursion_from_the_first_value_on() -> None:
    rng = np.random.default_rng(5)
    lengths, model = np.array([4, 1, 7, 3]), np.array([0, 1, 1, 0])
    n = int(lengths.sum())
    x, before = rng.normal(size=(n, 2)), rng.normal(size=(4, 2))
    x[rng.uniform(size=x.shape) < 0.3] = np.nan
    before[1:3, 0] = np.nan
    predictor = EwmaPredictor(np.array([0.2, 0.7]), 2)
    rows = predictor.initial_state(4)
    rows[:, :2] = before
    prediction = predictor.scan(rows, x, np.arange(float(n)), lengths, model)
    row = 0
    for e in range(4):
        mean, lacked = before[e].copy(), np.zeros(2, dtype=bool)
        for _ in range(lengths[e]):
            np.testing.assert_allclose(prediction.expected[row], np.nan_to_num(mean))
            np.testing.assert_array_equal(prediction.past_missing[row], np.isnan(mean) | lacked)
            lacked = np.isnan(x[row])
            for j in range(2):
                if not np.isnan(x[row, j]):
                    known = not np.isnan(mean[j])
                    weight = predictor.weight[model[e]]
                    mean[j] = (1 - weight) * mean[j] + weight * x[row, j] if known else x[row, j]
            row += 1
        np.testing.assert_allclose(prediction.rows[e, :2], mean)


def made(name: str, d: int = 3) -> Predictor:
    rng = np.random.default_rng(7)
    if name == "ewma":
        return EwmaPredictor(np.array([0.3, 0.05]), d)
    if name == "seasonal":
        return SeasonalPredictor(rng.normal(size=(2, N_BINS, d)))
    if name == "cyclic":
        profile, spread = rng.normal(size=(2, 5, d)), rng.uniform(0.5, 2.0, (2, 5, d))
        return CyclicPredictor(profile, spread, period_s=4000.0, begins_s=100.0, records=5.2)
    if name == "autoregressive":
        return unbounded(rng.normal(size=(2, 3 * d, d)), rng.normal(size=(2, d)))
    if name == "regression":
        return RegressionPredictor(rng.normal(size=(2, N_REGRESSORS, d)) / 3, rng.uniform(0.5, 2.0, (2, d)))
    return predictor_from_arrays(name, {}, d)


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_batching_changes_no_bit(name: str, missing: float) -> None:
    """Whole runs of several entities, against one record of one entity at a time."""
    predictor = made(name)
    rng = np.random.default_rng(8)
    # More than the blocks after which some predictors learn.
    lengths, model = np.array([17, 1, 140, 9]), np.array([1, 0, 0, 1])
    n = int(lengths.sum())
    x, time = rng.normal(size=(n, 3)), 777.0 * np.arange(float(n))
    x[rng.uniform(size=x.shape) < missing] = np.nan
    whole = predictor.scan(predictor.initial_state(4), x, time, lengths, model)
    one, row = np.array([1]), 0
    for e, length in enumerate(lengths):
        state = predictor.initial_state(1)
        for _ in range(length):
            part = slice(row, row + 1)
            single = predictor.scan(state, x[part], time[part], one, model[e : e + 1])
            np.testing.assert_array_equal(single.expected, whole.expected[part])
            np.testing.assert_array_equal(single.past_missing, whole.past_missing[part])
            state, row = single.rows, row + 1
        np.testing.assert_array_equal(state, whole.rows[e : e + 1])


@pytest.mark.parametrize("name", PREDICTORS)
def test_hidden_past_is_a_missing_past(name: str) -> None:
    """Of whatever width: every past value reported can be hidden, and is then reported as missing."""
    predictor = made(name)
    x = np.random.default_rng(9).normal(size=(7, 3))
    one, zero, time = np.array([1]), np.array([0]), np.arange(7.0)
    rows = predictor.scan(predictor.initial_state(1), x[:6], time[:6], np.array([6]), zero).rows
    width = predictor.scan(rows, x[6:], time[6:], one, zero).past_missing.shape[1]
    hidden = np.arange(width) % 2 == 0
    after = predictor.scan(predictor.hide(rows, hidden), x[6:], time[6:], one, zero)
    np.testing.assert_array_equal(after.past_missing[0], hidden)


def kept_from(n: int) -> int:
    """Return which record's past is the newest that is kept of two blocks of 64, after n records."""
    return n // 64 * 64 - 65


@pytest.mark.parametrize("n", [128, 150, 191, 192])
def test_a_hidden_past_of_ewma_is_the_mean_of_long_before(n: int) -> None:
    predictor, one, zero = made("ewma"), np.array([1]), np.array([0])
    x, time = np.random.default_rng(10).normal(size=(n, 3)), np.arange(float(n))
    known = predictor.scan(predictor.initial_state(1), x, time, np.array([n]), zero)
    hidden = predictor.hide(known.rows, np.array([True, False, False]))
    now = predictor.scan(hidden, x[:1], time[:1], one, zero).expected[0]
    shown = predictor.scan(known.rows, x[:1], time[:1], one, zero).expected[0]
    assert now[0] == known.expected[kept_from(n), 0]
    np.testing.assert_array_equal(now[1:], shown[1:])


@pytest.mark.parametrize("name", ["ewma", "regression"])
def test_hiding_a_past_that_was_missing_for_long_changes_nothing_expected(name: str) -> None:
    predictor, one, zero = made(name), np.array([1]), np.array([0])
    x, time = np.random.default_rng(11).normal(size=(200, 3)), 60.0 * np.arange(200.0)
    x[197:, 1] = np.nan
    rows = predictor.scan(predictor.initial_state(1), x, time, np.array([200]), zero).rows
    shown = predictor.scan(rows, x[:1], time[-1:], one, zero)
    lacked = shown.past_missing[0]
    assert lacked.reshape(-1, 3).tolist() == [[False, True, False]] * (len(lacked) // 3)
    again = predictor.scan(predictor.hide(rows, lacked), x[:1], time[-1:], one, zero)
    np.testing.assert_array_equal(again.expected, shown.expected)
    np.testing.assert_array_equal(again.past_missing, shown.past_missing)


def test_ewma_weight_is_small_for_noise_and_large_for_a_random_walk() -> None:
    rng = np.random.default_rng(0)
    noise, walk = rng.normal(size=(3000, 1)), np.cumsum(rng.normal(size=(3000, 1)), axis=0)
    walk = (walk - walk.mean()) / walk.std()
    lengths, model = np.array([3000, 3000]), np.array([0, 1])
    fitted = fit_predictor("ewma", np.vstack([noise, walk]), np.arange(6000.0), lengths, model, 4)
    assert isinstance(fitted, EwmaPredictor)
    assert fitted.weight[0] == 0.01
    assert fitted.weight[1] == 0.9
    assert fitted.weight[2] == fitted.weight[3], "a model without rows has the pooled weight"


def test_of_equally_good_ewma_weights_the_smoother_is_taken() -> None:
    fitted = fit_predictor("ewma", np.ones((50, 1)), np.arange(50.0), np.array([50]), np.array([0]), 2)
    assert isinstance(fitted, EwmaPredictor)
    assert fitted.weight.tolist() == [0.01, 0.01]


def test_season_is_the_half_hour_of_a_working_day_or_of_the_weekend() -> None:
    thursday, saturday, monday = 0.0, 2 * DAY_S, 4 * DAY_S
    time = np.array(
        [thursday, thursday + 1799, thursday + 1800, monday + DAY_S - 1e-9, saturday, monday - 1, monday]
    )
    b = BINS_PER_DAY
    assert season_of(time).tolist() == [0, 0, 1, b - 1, b, 2 * b - 1, 0]


def test_seasonal_learns_the_day_and_shrinks_an_entity_that_was_seen_little() -> None:
    rng = np.random.default_rng(0)
    week = 300.0 * np.arange(4.0 * 7 * 288)
    usual = np.sin(2 * np.pi * week / DAY_S)
    many = usual + 0.1 * rng.normal(size=week.size)
    few = np.full(6, 5.0)
    z = np.concatenate([many, few])[:, None]
    time = np.concatenate([week, week[:6]])
    fitted = fit_predictor("seasonal", z, time, np.array([week.size, 6]), np.array([0, 1]), 3)
    assert isinstance(fitted, SeasonalPredictor)
    middle = np.sin(2 * np.pi * (np.arange(BINS_PER_DAY) + 0.5) / BINS_PER_DAY)
    working_days, weekend = fitted.profile[0, :BINS_PER_DAY, 0], fitted.profile[0, BINS_PER_DAY:, 0]
    np.testing.assert_allclose(working_days, middle, atol=0.12)
    np.testing.assert_allclose(weekend, middle, atol=0.25)
    one_half_hour = fitted.profile[1, 0, 0]
    assert fitted.profile[2, 0, 0] + 1 < one_half_hour < 5
    shift = fitted.profile[1, 5:BINS_PER_DAY, 0] - fitted.profile[2, 5:BINS_PER_DAY, 0]
    np.testing.assert_allclose(shift, shift[0])


def test_seasonal_follows_a_level_that_has_moved_for_good_by_half_a_day_and_hardly_for_hours() -> None:
    predictor = SeasonalPredictor(np.zeros((1, N_BINS, 2)))
    time = np.arange(0.0, 5 * DAY_S, 600.0)
    # One record is missing in the second feature, and one is absurd.
    x = np.full((time.size, 2), 2.0)
    x[50, 1], x[100, 1] = np.nan, 1e6
    expected = predictor.scan(
        predictor.initial_state(1), x, time, np.array([time.size]), np.array([0])
    ).expected
    after = {hours: expected[6 * hours] for hours in (0, 3, 24, 48, 96)}
    np.testing.assert_array_equal(after[0], [0.0, 0.0])
    assert (after[3] < 0.2).all()
    np.testing.assert_allclose(after[24], [1.0, 1.0], rtol=0.05)
    np.testing.assert_allclose(after[48], [1.5, 1.5], rtol=0.05)
    assert (after[96] > 1.85).all()
    assert (after[96] < 2.0).all()


def test_seasonal_is_moved_little_by_a_record_after_a_gap() -> None:
    predictor = SeasonalPredictor(np.zeros((1, N_BINS, 1)))
    x, time = np.full((3, 1), 2.0), np.array([0.0, 20 * DAY_S, 20 * DAY_S + 600.0])
    found = predictor.scan(predictor.initial_state(1), x, time, np.array([3]), np.array([0]))
    assert 0.0 < found.expected[2, 0] <= 0.1


def test_seasonal_needs_two_days() -> None:
    time = 600.0 * np.arange(200.0)
    with pytest.raises(ValueError, match=r"at least 2 days, .* cover 1\.4"):
        fit_predictor("seasonal", np.ones((200, 1)), time, np.array([200]), np.array([0]), 2)


def of_a_cycle(**changed: FloatArray) -> Arrays:
    right = {
        "profile": np.zeros((1, 5, 3)),
        "spread": np.ones((1, 5, 3)),
        "cycle": np.array([60.0, 0.0, 5.0]),
    }
    return {**right, **changed}


def test_predictions_of_no_rows_are_none() -> None:
    none = np.empty(0, dtype=np.int64)
    for name in PREDICTORS:
        predictor = made(name)
        prediction = predictor.scan(predictor.initial_state(0), np.empty((0, 3)), np.empty(0), none, none)
        assert prediction.expected.shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("ewma", {"weight": np.array([0.0])}),
        ("ewma", {"weight": np.array([np.nan])}),
        ("ewma", {"weight": np.ones((1, 3))}),
        ("seasonal", {"profile": np.zeros((1, 24, 3))}),
        ("seasonal", {"profile": np.full((1, N_BINS, 3), np.inf)}),
        ("cyclic", of_a_cycle(spread=np.ones((1, 4, 3)))),
        ("cyclic", of_a_cycle(spread=np.zeros((1, 5, 3)))),
        ("cyclic", of_a_cycle(profile=np.full((1, 5, 3), np.nan))),
        ("cyclic", of_a_cycle(cycle=np.array([0.0, 0.0, 5.0]))),
    ],
)
def test_arrays_that_make_no_predictor_are_refused(name: str, arrays: Arrays) -> None:
    with pytest.raises(ValueError, match=r"weight|profile|cycle"):
        predictor_from_arrays(name, arrays, 3)
