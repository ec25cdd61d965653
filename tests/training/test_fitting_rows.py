"""Tests for detector.training.fitting_rows."""

import numpy as np
import pytest

from detector.training.fitting_rows import (
    blocks_over_time,
    body_std,
    check_rows,
    complete_rows,
    gain,
    held_out_in_time,
    is_rare,
    is_worth_having,
    lengths_kept,
    require_enough_values,
)

ALL = np.array([4])


@pytest.mark.parametrize(
    ("x", "lengths", "message"),
    [
        (np.empty((0, 2)), np.empty(0, dtype=np.int64), "no row to fit on"),
        (np.empty((4, 0)), ALL, "one column per feature"),
        (np.zeros((4, 2)), np.array([3]), "lengths sum to 3, but there are 4 rows"),
        (np.zeros((4, 2)), np.array([4, 0]), "each must be >= 1"),
        (np.array([[0.0, np.inf]] * 4), ALL, r"features \[1\] .* infinite"),
        (np.array([[np.nan, 0.0]] * 4), ALL, r"features \[0\] .* missing in every row"),
    ],
)
def test_rows_that_nothing_can_be_fitted_on_are_refused(
    x: np.ndarray, lengths: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_rows(x, lengths)


def test_incomplete_rows_are_left_out_and_runs_are_cut_there() -> None:
    x = np.random.default_rng(0).normal(size=(10, 2))
    x[[0, 3, 9], 1] = np.nan
    rows = complete_rows(x, np.array([6, 4]))
    np.testing.assert_array_equal(rows.lengths, [2, 2, 3])
    np.testing.assert_allclose(rows.x * rows.scale, np.delete(x, [0, 3, 9], axis=0))


def test_gaps_are_filled_with_values_of_other_rows_where_most_rows_have_one() -> None:
    x = np.array([[1.0, np.nan], [np.nan, 2.0], [3.0, np.nan], [np.nan, 6.0], [5.0, 1.0]])
    rows = complete_rows(x, np.array([5]))
    filled = rows.x * rows.scale
    np.testing.assert_allclose(filled[~np.isnan(x)], x[~np.isnan(x)])
    assert set(filled[:, 0].round(9)) == {1.0, 3.0, 5.0}
    np.testing.assert_array_equal(rows.lengths, [5])


def test_a_feature_that_most_rows_lack_keeps_its_spread() -> None:
    x = np.random.default_rng(0).normal(size=(2000, 2))
    x[200:, 1] = np.nan
    assert complete_rows(x, np.array([2000])).x[:, 1].std() == pytest.approx(1.0, rel=0.15)


def test_a_few_enormous_values_do_not_set_the_scale() -> None:
    x = np.random.default_rng(0).normal(size=(2000, 1))
    x[:5] = 1e6
    assert body_std(x)[0] == pytest.approx(1.0, rel=0.1)


def test_constant_features_have_scale_one_and_rare_changes_their_own() -> None:
    x = np.zeros((2000, 3))
    x[:, 1] = 1e9 + 0.1
    x[7, 2] = 4.0
    np.testing.assert_allclose(body_std(x), [1.0, 1.0, x[:, 2].std()])


def test_the_last_fifth_of_every_run_is_held_out() -> None:
    marks = held_out_in_time(np.array([10, 4, 5]))
    np.testing.assert_array_equal(np.flatnonzero(marks), [8, 9, 13, 18])


def test_lengths_are_those_of_what_is_left() -> None:
    kept = np.array([1, 1, 0, 1, 1, 1, 0, 0, 1], dtype=bool)
    np.testing.assert_array_equal(lengths_kept(np.array([5, 3, 1]), kept), [2, 2, 1, 1])


@pytest.mark.parametrize("lengths", [[100_000], [30] * 4000, [50_000, 7, 60_000]])
def test_blocks_cover_the_whole_time_in_about_the_number_asked(lengths: list[int]) -> None:
    kept = blocks_over_time(np.array(lengths), 20_000)
    assert kept.sum() == pytest.approx(20_000, rel=0.05)
    for part in np.array_split(kept, 10):
        assert part.sum() == pytest.approx(2000, rel=0.3)


def test_few_rows_are_all_used() -> None:
    assert blocks_over_time(np.array([100, 50]), 20_000).all()


def test_absurd_rows_are_left_out_and_far_ones_are_not() -> None:
    x = np.column_stack([np.random.default_rng(0).normal(size=(2000, 2)), np.zeros(2000)])
    x[3, 0], x[7, 1], x[9, 1], x[11, 2] = 1e6, -1e300, 50.0, 1e300
    rows = complete_rows(x, np.array([2000]))
    np.testing.assert_array_equal(rows.lengths, [3, 3, 3, 1988])
    np.testing.assert_allclose(rows.x * rows.scale, np.delete(x, [3, 7, 11], axis=0))


def test_a_feature_that_rests_and_once_jumps_to_its_other_state_measures_no_error() -> None:
    switch = np.concatenate([np.random.default_rng(1).normal(0.0, 0.01, 1999), [800.0]])[:, None]
    assert len(complete_rows(switch, np.array([2000])).x) == 2000


def test_held_out_time_is_that_of_the_runs_before_they_were_cut() -> None:
    x = np.random.default_rng(0).normal(size=(100, 1))
    x = np.column_stack([x, np.where(np.arange(100) % 4 == 3, np.nan, 0.0)])
    rows = complete_rows(x, np.array([100]))
    np.testing.assert_array_equal(np.flatnonzero(rows.held_out), np.arange(60, 75))


def test_no_single_row_decides_between_models() -> None:
    reference = np.zeros(200)
    better = np.full(200, 0.5)
    better[:2] = [-1e300, -np.inf]
    assert gain(better, reference)[0] == pytest.approx((198 * 0.5 - 20) / 200)
    assert is_worth_having(better, reference)
    assert is_worth_having(reference, np.full(200, -np.inf))
    assert not is_worth_having(np.full(200, -np.inf), np.full(200, -np.inf))


def test_a_gain_within_its_error_is_not_worth_having() -> None:
    noise = np.random.default_rng(0).normal(size=100)
    noise -= noise.mean()
    assert not is_worth_having(noise + 0.1, np.zeros(100))
    assert is_worth_having(noise + 0.3, np.zeros(100))
    assert not is_worth_having(np.full(100, 0.005), np.zeros(100))


def test_what_a_tenth_of_the_rows_do_is_not_rare_and_the_commonest_never_is() -> None:
    weights = np.array([0.7, 0.21, 0.09])
    np.testing.assert_array_equal(is_rare(weights, 1000), [False, False, True])
    np.testing.assert_array_equal(is_rare(weights, 100), [False, True, True])
    np.testing.assert_array_equal(is_rare(np.array([1.0]), 10), [False])
    assert not is_rare(np.full(16, 1 / 16), 1000).any()


def test_too_many_parameters_are_refused_with_the_rows_needed() -> None:
    with pytest.raises(ValueError, match="give at least 50 rows"):
        require_enough_values(np.zeros((49, 2)), 20, "a model")
    require_enough_values(np.zeros((50, 2)), 20, "a model")


def test_rounding_has_no_scale() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([1e-5 * rng.normal(size=1000), 1e-3 * rng.normal(size=1000)])
    np.testing.assert_allclose(body_std(x), [1.0, 1e-3], rtol=0.1)
