"""Tests for detector.scoring.tail."""

import numpy as np
import pytest
from scipy.stats import genpareto, kstest

from detector.scoring.tail import Tail


def test_rarest_row_is_never_given_probability_zero() -> None:
    few = Tail.fit(np.array([1.0, 2.0, 3.0, 4.0]))
    assert few.p_value(np.array([np.inf])) == pytest.approx([1 / 5])
    many = Tail.fit(np.random.default_rng(0).exponential(size=5000))
    assert (many.p_value(np.array([1e9, np.inf])) > 0).all()


def test_unscorable_row_stays_unscored() -> None:
    assert np.isnan(Tail.fit(np.arange(10.0)).p_value(np.array([np.nan]))).all()


def test_body_agrees_with_counting_by_hand() -> None:
    rng = np.random.default_rng(7)
    held_out, rows = rng.normal(size=60), rng.normal(size=40)
    rows = rows[rows < np.sort(held_out)[-21]]
    by_hand = [(1 + sum(c >= r for c in held_out)) / 61 for r in rows]
    np.testing.assert_allclose(Tail.fit(held_out).p_value(rows), by_hand)


@pytest.mark.parametrize("n", [9, 20, 39])
def test_few_rows_have_a_careful_tail(n: int) -> None:
    rng = np.random.default_rng(n)
    fitted = [Tail.fit(rng.exponential(size=n)) for _ in range(300)]
    # On average over training sets, what comes next is as rare as it is said to be ...
    said = np.array([tail.p_value(np.array([7.0]))[0] for tail in fitted])
    assert 0.5 * np.exp(-7.0) < np.median(said) < 20 * np.exp(-7.0)
    fresh = np.concatenate([tail.p_value(rng.exponential(size=2000)) for tail in fitted])
    assert np.mean(fresh <= 1e-3) < 2e-3
    # ... and what is far out of everything seen is told of.
    assert max(tail.p_value(np.array([1000.0]))[0] for tail in fitted) < 1e-5


def test_p_value_never_rises_with_surprise() -> None:
    tail = Tail.fit(np.random.default_rng(1).standard_t(3, size=4000))
    p_value = tail.p_value(np.concatenate([[-1e6], np.linspace(-20, 200, 20_000)]))
    assert (np.diff(p_value) <= 0).all()
    assert p_value[0] == 1.0


@pytest.mark.parametrize("shape", [0.0, 0.3])
def test_tail_beyond_the_last_rank_is_that_of_the_distribution(shape: float) -> None:
    far = genpareto.isf([1e-4, 1e-5], shape)
    estimates = [
        np.log10(Tail.fit(genpareto.rvs(shape, size=20_000, random_state=seed)).p_value(far))
        for seed in range(8)
    ]
    np.testing.assert_allclose(np.mean(estimates, axis=0), [-4, -5], atol=0.3)


def test_incidents_in_held_out_time_do_not_make_all_others_ordinary() -> None:
    incident = np.geomspace(1e2, 1e6, 40)
    tail = Tail.fit(np.concatenate([np.random.default_rng(4).exponential(size=2000), incident]))
    assert tail.p_value(np.array([1e8]))[0] < 1e-7


def test_bounded_surprise_still_leaves_room_for_more() -> None:
    surprise = np.random.default_rng(2).uniform(size=5000)
    p_value = Tail.fit(surprise).p_value(np.array([1.01, 1.05, 2.0]))
    assert (np.diff(p_value) < 0).all()
    assert (p_value > 0).all()


def test_infinite_calibration_rows_count_and_do_not_shape_the_tail() -> None:
    surprise = np.concatenate([np.random.default_rng(3).exponential(size=2000), [np.inf] * 3])
    assert np.isfinite(Tail.fit(surprise).scale)


def test_p_values_of_fresh_rows_are_uniform() -> None:
    rng = np.random.default_rng(5)
    p_value = Tail.fit(rng.gamma(2.0, size=20_000)).p_value(rng.gamma(2.0, size=3000))
    assert kstest(p_value, "uniform").pvalue > 0.001


@pytest.mark.parametrize("probabilities", [[0.98, 0.02], [0.985, 0.012, 0.003], [0.9, 0.09, 0.008, 0.002]])
def test_the_p_value_of_a_repeated_value_is_how_often_it_or_a_rarer_one_comes(
    probabilities: list[float],
) -> None:
    surprise = -np.log(probabilities)
    counts = (20_000 * np.array(probabilities)).astype(int)
    tail = Tail.fit(np.repeat(surprise, counts))
    at_most_as_probable = np.cumsum(probabilities[::-1])[::-1]
    np.testing.assert_allclose(tail.p_value(surprise), at_most_as_probable, rtol=0.03)
    beyond = tail.p_value(surprise[-1] + np.array([0.1, 1.0, 10.0]))
    assert (np.diff(beyond) < 0).all()
    assert (beyond < 1 / 20_000).all()


def test_no_calibration_rows_says_to_train_with_more() -> None:
    with pytest.raises(ValueError, match="train with more held-out records"):
        Tail.fit(np.array([]))


@pytest.mark.parametrize("shape", [0.1, 0.3, 0.45])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_pareto_tail_is_the_likeliest_one(shape: float, unit: float) -> None:
    surprise = unit * genpareto.rvs(shape, size=10_000, random_state=3)
    tail = Tail.fit(surprise)
    excess = surprise[surprise > tail.onset] - tail.onset
    likeliest, _, scale = genpareto.fit(excess, floc=0)
    assert tail.shape == pytest.approx(min(max(likeliest, 0.0), 0.5), abs=1e-3)
    if 0 < likeliest < 0.5:
        assert tail.scale == pytest.approx(scale, rel=1e-3)
