"""Tests for detector.training.feature_estimates."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from detector.training.feature_estimates import (
    NARROWEST_BIN,
    VARIANCE_FLOOR,
    FeatureEstimate,
    GaussianEstimate,
    HistogramEstimate,
    KernelEstimate,
    StudentEstimate,
    bin_edges,
)

ESTIMATES: dict[str, Callable[[np.ndarray, float], FeatureEstimate]] = {
    "gaussian": GaussianEstimate,
    "histogram": HistogramEstimate,
    "kernel": KernelEstimate,
    "student": StudentEstimate,
}


def drawn(n: int = 3000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, size=n)


def shares(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([1.0, 2.0], size=n)


def bandwidth(x: np.ndarray) -> float:
    low, high = np.quantile(x, [0.005, 0.995])
    return float(0.1 * (high - low))


def test_a_bell_has_the_weighted_moments() -> None:
    x, weights = drawn(), shares(3000)
    density = GaussianEstimate(x, 1.0).density(weights)
    mean = np.average(x, weights=weights[:, 1])
    assert density.mean[1] == pytest.approx(mean, rel=1e-8)
    variance = np.average((x - mean) ** 2, weights=weights[:, 1])
    assert density.variance[1] == pytest.approx(variance + VARIANCE_FLOOR, rel=1e-8)


@pytest.mark.parametrize("kind", ESTIMATES)
def test_missing_values_count_for_nothing(kind: str) -> None:
    x, weights = drawn(), shares(3000)
    with_gaps = x.copy()
    with_gaps[::3] = np.nan
    seen = ~np.isnan(with_gaps)
    one = ESTIMATES[kind](with_gaps, 1.0).density(weights)
    two = ESTIMATES[kind](x[seen], 1.0).density(weights[seen])
    for name, array in one.arrays().items():
        np.testing.assert_allclose(array, two.arrays()[name], rtol=1e-12)


@pytest.mark.parametrize("kind", ESTIMATES)
def test_a_class_without_rows_has_the_spread_of_all_rows(kind: str) -> None:
    x = drawn()
    weights = np.column_stack([np.ones(3000), np.zeros(3000)])
    mean, std = ESTIMATES[kind](x, 1.0).density(weights).expectation(np.array([[0.0, 1.0]]))
    assert mean[0] == pytest.approx(x.mean(), rel=0.02)
    assert std[0] == pytest.approx(x.std(), rel=0.05)


def test_a_rare_flag_is_a_mild_surprise_and_one_never_seen_a_great_one() -> None:
    x = np.zeros(1000)
    x[:3] = 1.0
    log_density = KernelEstimate(x, float(x.std())).density(np.ones((1000, 1))).log_density
    usual, flagged = log_density(np.array([0.0, 1.0]))[0]
    assert 5.0 < usual - flagged < 20.0
    assert usual - log_density(np.array([-1.0]))[0, 0] > 100.0


def test_kernels_blur_the_density_and_not_what_is_expected_or_sampled() -> None:
    rng = np.random.default_rng(0)
    x, own = (
        np.concatenate([rng.normal(size=5000), 6.0 + 0.2 * rng.normal(size=5000)]),
        np.repeat([0, 1], 5000),
    )
    density = KernelEstimate(x, float(x.std())).density(np.eye(2)[own])
    mean, std = density.expectation(np.eye(2))
    np.testing.assert_allclose(mean, [0.0, 6.0], atol=0.05)
    np.testing.assert_allclose(std, [1.0, 0.2], atol=0.1)
    sampled = density.sample(own, np.random.default_rng(1))
    np.testing.assert_allclose([sampled[own == c].std() for c in (0, 1)], std, rtol=0.05)
    np.testing.assert_allclose(np.sqrt(density.moments[1]), np.hypot(std, bandwidth(x)), rtol=1e-6)


@pytest.mark.parametrize("values", [np.zeros(500), np.array([7.5])], ids=["constant", "single"])
@pytest.mark.parametrize("kind", ESTIMATES)
def test_a_constant_feature_keeps_a_spread(kind: str, values: np.ndarray) -> None:
    density = ESTIMATES[kind](values, 1.0).density(np.ones((len(values), 1)))
    at, beside = density.log_density(np.array([values[0], values[0] + 1.0]))[0]
    assert np.isfinite([at, beside]).all()
    assert beside < at - 5


def test_every_kind_that_is_chosen_from_is_equally_dense_on_a_constant() -> None:
    x = np.zeros(100_000)
    at = [
        ESTIMATES[kind](x, 1.0).density(np.ones((len(x), 1))).log_density(np.zeros(1))[0, 0]
        for kind in ("gaussian", "histogram", "kernel")
    ]
    assert at == pytest.approx([at[0]] * 3, abs=0.01)


def test_the_density_that_values_were_drawn_from_is_approached_by_a_histogram() -> None:
    density = HistogramEstimate(drawn(40_000), 1.0).density(np.ones((40_000, 1)))
    fresh = drawn(20_000, seed=1)
    true = np.log(fresh) - fresh
    assert np.mean(true - density.log_density(fresh)[0]) < 0.02


@pytest.mark.parametrize("far", [0.0, 10.0, 50.0])
def test_kernels_blur_by_a_tenth_of_the_range_of_the_body(far: float) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=5000), far + rng.normal(size=5000)])
    density = KernelEstimate(x, float(x.std())).density(np.ones((len(x), 1)))
    std = np.hypot(1.0, bandwidth(x))
    blurred = np.log(0.5 * norm.pdf(x, 0.0, std) + 0.5 * norm.pdf(x, far, std))
    assert np.abs(density.log_density(x)[0] - blurred).mean() < 0.03


@pytest.mark.parametrize("kind", ["histogram", "kernel"])
def test_one_absurd_value_stretches_neither_body_nor_tails(kind: str) -> None:
    x = drawn()
    x[17] = 1e9
    plain, stretched = (
        ESTIMATES[kind](values, 1.0).density(np.ones((3000, 1))).arrays() for values in (drawn(), x)
    )
    np.testing.assert_allclose(stretched["tail_scales"], plain["tail_scales"], rtol=0.5)
    ends = "edges" if kind == "histogram" else "ends"
    assert stretched[ends][-1] < 2 * plain[ends][-1]


@pytest.mark.parametrize("kind", ["histogram", "kernel"])
@pytest.mark.parametrize("n", [30, 3000])
def test_outside_the_training_range_density_falls_for_ever(kind: str, n: int) -> None:
    x = np.random.default_rng(1).normal(size=n)
    density = ESTIMATES[kind](x, 1.0).density(np.ones((n, 1)))
    for direction in (-1.0, 1.0):
        at = density.log_density(direction * np.array([5.0, 10.0, 100.0, 1e6]))[0]
        assert np.isfinite(at).all()
        assert (np.diff(at) < -1.0).all()


def test_what_repeats_exactly_is_told_from_what_lies_near() -> None:
    x = np.random.default_rng(0).integers(0, 4, size=2000).astype(float)
    density = HistogramEstimate(x, 1.0).density(np.ones((2000, 1)))
    at, between = density.log_density(np.array([[0.0, 1.0, 2.0, 3.0], [0.5, 1.5, 2.5, 3.6]]).ravel()).reshape(
        2, 4
    )
    assert (at > between + 5).all()


@pytest.mark.parametrize(
    "values",
    [
        drawn(),
        np.round(drawn(), 1),
        np.array([0.0] * 999 + [1.0]),
        np.concatenate([np.zeros(500), drawn(500)]),
        np.array([1.0, 2.0]),
        1e6 * drawn(),
    ],
    ids=["continuous", "rounded", "rarely_one", "half_zero", "two", "enormous"],
)
def test_bins_are_few_and_wide_enough_and_hold_nearly_all(values: np.ndarray) -> None:
    edges = bin_edges(values, NARROWEST_BIN)
    assert 2 <= len(edges) <= 65
    assert np.diff(edges).min() >= NARROWEST_BIN * (1 - 1e-5)
    assert np.mean((values >= edges[0]) & (values < edges[-1])) >= 0.989
    assert not np.isin(edges, values).any()
