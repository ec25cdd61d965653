"""Tests for detector.models.feature_transforms."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import lognorm, norm

from detector.batch import FloatArray, IntArray
from detector.models.contract import Explanation
from detector.models.feature_transforms import FeatureTransforms, rate_unit
from detector.models.sequences import runs_of, starts_of

NOTHING = np.empty(0, dtype=np.int64)


def counters(d: int, *columns: int) -> FeatureTransforms:
    return FeatureTransforms(d, np.array(columns), NOTHING, np.empty(0))


def logs(d: int, **threshold_of: float) -> FeatureTransforms:
    """``f1=0.5``: column 1, with a logarithm that starts at 0.5."""
    columns = np.array([int(name[1:]) for name in threshold_of])
    return FeatureTransforms(d, NOTHING, columns, np.array(list(threshold_of.values())))


def rates_of_one(total: list[float], time: list[float]) -> list[float]:
    x, _ = counters(1, 0).rates(
        np.full((1, 2), np.nan), np.array(total)[:, None], np.array(time), np.array([len(total)])
    )
    rates: list[float] = x[:, 0].tolist()
    return rates


def rates_by_hand(total: FloatArray, time: FloatArray, entity: IntArray) -> FloatArray:
    """One record after the other, one column after the other."""
    rates = np.full(total.shape, np.nan)
    for j in range(total.shape[1]):
        seen: dict[int, tuple[float, float]] = {}
        for i, (value, now, name) in enumerate(zip(total[:, j], time, entity.tolist(), strict=True)):
            if np.isnan(value) or value < 0:
                continue
            if name in seen and now > seen[name][1]:
                last, then = seen[name]
                rates[i, j] = (value - last if value >= last else value) / (now - then)
            seen[name] = value, now
    return rates


def messy_totals(n: int, lengths: IntArray) -> tuple[FloatArray, FloatArray]:
    """Totals of two counters, with resets, gaps, negative values, and records of the same time."""
    rng = np.random.default_rng(5)
    total = np.cumsum(rng.exponential(size=(n, 2)), axis=0)
    total -= np.maximum.accumulate(np.where(rng.uniform(size=(n, 2)) < 0.1, total, 0.0), axis=0)
    total[rng.uniform(size=(n, 2)) < 0.2] = np.nan
    total[rng.uniform(size=(n, 2)) < 0.05] = -1.0
    time = np.concatenate([np.cumsum(rng.integers(0, 4, length)) for length in lengths])
    return total, time.astype(np.float64)


def test_a_counter_becomes_its_increase_per_second() -> None:
    assert rates_of_one([5.0, 25.0, 25.0], [0.0, 10.0, 40.0]) == pytest.approx(
        [np.nan, 2.0, 0.0], nan_ok=True
    )


def test_after_a_reset_the_total_is_the_increase() -> None:
    assert rates_of_one([100.0, 7.0, 9.0], [0.0, 1.0, 2.0])[1:] == [7.0, 2.0]


def test_after_missing_values_the_rate_covers_all_the_time_since_the_last_one() -> None:
    rates = rates_of_one([10.0, np.nan, np.nan, 40.0], [0.0, 10.0, 20.0, 30.0])
    assert rates == pytest.approx([np.nan, np.nan, np.nan, 1.0], nan_ok=True)


def test_no_time_and_negative_totals_give_no_rate() -> None:
    rates = rates_of_one([1.0, 2.0, -5.0, 8.0], [0.0, 0.0, 1.0, 2.0])
    assert rates == pytest.approx([np.nan, np.nan, np.nan, 3.0], nan_ok=True)


def test_a_rate_that_no_float_holds_is_the_largest_one() -> None:
    assert rates_of_one([0.0, 1e300], [0.0, 1e-10])[1] == np.finfo(np.float64).max


def test_rates_agree_with_going_through_records_one_by_one() -> None:
    lengths = np.array([40, 1, 120, 3, 60])
    total, time = messy_totals(224, lengths)
    gauge = np.arange(224.0)
    x = np.column_stack([total[:, 0], gauge, total[:, 1]])
    transforms = counters(3, 0, 2)
    rates, _ = transforms.rates(transforms.initial_state(5), x, time, lengths)
    expected = rates_by_hand(total, time, np.repeat(np.arange(5), lengths))
    np.testing.assert_array_equal(rates[:, [0, 2]], expected)
    np.testing.assert_array_equal(rates[:, 1], gauge)


@pytest.mark.parametrize("size", [1, 7, 50])
def test_rates_and_state_have_the_same_bits_in_batches_of_any_size(size: int) -> None:
    lengths = np.array([100, 57])
    total, time = messy_totals(157, lengths)
    entity = np.repeat([0, 1], lengths)
    transforms = counters(2, 0, 1)
    whole, after = transforms.rates(transforms.initial_state(2), total, time, lengths)
    state, parts = transforms.initial_state(2), []
    for begin in range(0, 157, size):
        part = slice(begin, begin + size)
        here = entity[part]
        rates, state[np.unique(here)] = transforms.rates(
            state[np.unique(here)], total[part], time[part], runs_of(here)
        )
        parts.append(rates)
    assert np.vstack(parts).tobytes() == whole.tobytes()
    assert state.tobytes() == after.tobytes()


def test_what_is_given_stays_as_it_was() -> None:
    transforms = FeatureTransforms(1, np.array([0]), np.array([0]), np.array([1.0]))
    x, rows = np.array([[1.0], [3.0]]), np.array([[0.0, -1.0]])
    rates, after = transforms.rates(rows, x, np.array([0.0, 1.0]), np.array([2]))
    transforms.scaled(rates)
    np.testing.assert_array_equal(x, [[1.0], [3.0]])
    np.testing.assert_array_equal(rows, [[0.0, -1.0]])
    np.testing.assert_array_equal(rates, [[1.0], [2.0]])
    np.testing.assert_array_equal(after, [[3.0, 1.0]])


def test_without_transforms_nothing_is_even_copied() -> None:
    x, rows = np.ones((3, 2)), np.empty((1, 0))
    transforms = FeatureTransforms.none(2)
    assert transforms.rates(rows, x, np.arange(3.0), np.array([3]))[0] is x
    assert transforms.scaled(x) is x
    assert transforms.in_units(x) is x
    assert transforms.state_size == transforms.warmup_records == 0


def test_the_scale_is_a_logarithm_above_its_start_and_the_tangent_there_below() -> None:
    x = np.array([[0.5], [1.0], [1e300], [0.25], [0.0], [-3.0], [np.nan]])
    y = logs(1, f0=0.5).scaled(x)[:, 0]
    np.testing.assert_allclose(y[:3], np.log(x[:3, 0]))
    np.testing.assert_allclose(y[3:6], np.log(0.5) + (x[3:6, 0] - 0.5) / 0.5)
    assert np.isnan(y[6])


def test_the_scale_rises_everywhere_and_has_units_put_back() -> None:
    x = np.sort(np.concatenate([np.linspace(0, 3, 200), np.geomspace(3, 1e200, 200)]))[:, None]
    transforms = logs(1, f0=0.7)
    y = transforms.scaled(x)
    assert (np.diff(y[:, 0]) > 0)[np.diff(x[:, 0]) > 0].all()
    np.testing.assert_allclose(transforms.in_units(y), x, rtol=1e-12, atol=1e-15)


def test_in_units_nothing_is_negative_or_infinite() -> None:
    x = logs(1, f0=0.7).in_units(np.array([[-50.0], [1e9]]))
    assert x[0, 0] == 0.0
    assert 1e300 < x[1, 0] < np.inf


@pytest.mark.parametrize("size", [1, 3, 64])
def test_logarithms_have_the_same_bits_in_batches_of_any_size(size: int) -> None:
    x = np.random.default_rng(0).lognormal(0, 3, (129, 5))
    transforms = logs(5, f0=0.01, f2=2.0, f3=1e-9)
    y = transforms.scaled(x)
    parts = [transforms.scaled(x[i : i + size]) for i in range(0, 129, size)]
    assert np.vstack(parts).tobytes() == y.tobytes()
    derivatives = [transforms.log_derivative(part) for part in parts]
    assert np.concatenate(derivatives).tobytes() == transforms.log_derivative(y).tobytes()


def test_a_density_of_logarithms_becomes_one_in_the_units_of_the_data() -> None:
    x = np.array([[0.6, 7.0], [30.0, 8.0], [np.nan, 9.0]])
    transforms = logs(2, f0=0.5)
    y = transforms.scaled(x)
    in_units = norm.logpdf(y[:2, 0], loc=1.0, scale=0.8) + transforms.log_derivative(y)[:2]
    np.testing.assert_allclose(in_units, lognorm.logpdf(x[:2, 0], 0.8, scale=np.exp(1.0)))
    assert transforms.log_derivative(y)[2] == 0.0


def test_the_density_in_units_integrates_to_one_below_zero_too() -> None:
    transforms = logs(1, f0=2.0)

    def density(x: float) -> float:
        y = transforms.scaled(np.array([[x]]))
        return float(np.exp(norm.logpdf(y[0, 0], loc=0.5, scale=0.7) + transforms.log_derivative(y)[0]))

    total = sum(quad(density, *ends, limit=200)[0] for ends in ((-12.0, 0.0), (0.0, 2.0), (2.0, 60.0)))
    assert total == pytest.approx(1.0, abs=1e-4)


def test_an_explanation_gets_a_median_half_the_width_and_the_nats_of_its_units() -> None:
    transforms = logs(2, f1=0.001)
    y = transforms.scaled(np.array([[3.0, 50.0]]))
    nats = np.array([[1.0, -norm.logpdf(y[0, 1], loc=2.0, scale=0.5)]])
    inner = Explanation(nats, np.array([[4.0, 2.0]]), np.array([[0.3, 0.5]]))
    outer = transforms.explained_in_units(inner, y)
    np.testing.assert_allclose(outer.nats, [[1.0, -lognorm.logpdf(50.0, 0.5, scale=np.exp(2.0))]])
    np.testing.assert_allclose(outer.expected, [[4.0, np.exp(2.0)]])
    np.testing.assert_allclose(outer.std, [[0.3, (np.exp(2.5) - np.exp(1.5)) / 2]])


def test_arrays_give_the_same_transforms_back() -> None:
    transforms = FeatureTransforms(4, np.array([0, 2]), np.array([2, 3]), np.array([0.5, 7.0]))
    again = FeatureTransforms.from_arrays(transforms.arrays(), 4)
    for name in ("counters", "logs", "threshold"):
        np.testing.assert_array_equal(getattr(again, name), getattr(transforms, name))
    assert FeatureTransforms.none(4).arrays() == {}
    assert FeatureTransforms.from_arrays({}, 4).state_size == 0


def test_arrays_of_other_features_or_with_a_negative_start_are_refused() -> None:
    arrays = {"counter": np.zeros(2), "log_threshold": np.array([0.0, -1.0])}
    with pytest.raises(ValueError, match=r"a logarithm cannot start at -1\.0"):
        FeatureTransforms.from_arrays(arrays, 2)
    with pytest.raises(ValueError, match=r"'counter' has shape \(2,\), expected \(3\)"):
        FeatureTransforms.from_arrays(arrays, 3)


@pytest.mark.parametrize(("unit", "rate"), [(None, "1/s"), ("By", "By/s"), ("1", "1/s")])
def test_a_rate_has_the_unit_of_its_counter_per_second(unit: str | None, rate: str) -> None:
    assert rate_unit(unit) == rate


def test_runs_are_told_apart_however_they_lie() -> None:
    lengths = np.array([2, 2])
    transforms = counters(1, 0)
    x, _ = transforms.rates(
        transforms.initial_state(2),
        np.array([[1.0], [2.0], [9.0], [11.0]]),
        np.array([0.0, 1, 0, 1]),
        lengths,
    )
    assert np.isnan(x[starts_of(lengths), 0]).all()
    np.testing.assert_array_equal(x[[1, 3], 0], [1.0, 2.0])
