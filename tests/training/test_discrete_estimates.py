"""Tests for detector.training.discrete_estimates."""

from collections.abc import Callable

import numpy as np
import pytest

from detector.training.discrete_estimates import (
    CategoricalEstimate,
    NegativeBinomialEstimate,
    PoissonEstimate,
    TabulatedEstimate,
)
from detector.training.feature_estimates import FeatureEstimate

Estimate = Callable[[np.ndarray], FeatureEstimate]
OF_COUNTS: list[Estimate] = [PoissonEstimate, NegativeBinomialEstimate, TabulatedEstimate]
EVERY_COUNT = pytest.mark.parametrize("estimate", OF_COUNTS)
EVERY_KIND = pytest.mark.parametrize("estimate", [*OF_COUNTS, lambda x: CategoricalEstimate(x, 40)])


def drawn(n: int = 4000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(4.0, size=n).astype(float)


def shares(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([1.0, 2.0], size=n)


def log_probability(estimate: Estimate, x: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.asarray(estimate(x).density(np.ones((len(x), 1))).log_density(at)[0])


@EVERY_KIND
def test_missing_values_count_for_nothing(estimate: Estimate) -> None:
    x, weights = drawn(), shares(4000)
    with_gaps = x.copy()
    with_gaps[::3] = np.nan
    seen = ~np.isnan(with_gaps)
    one, two = estimate(with_gaps).density(weights), estimate(x[seen]).density(weights[seen])
    for name, array in one.arrays().items():
        np.testing.assert_allclose(array, two.arrays()[name], rtol=1e-12)


@EVERY_KIND
def test_the_distribution_that_values_were_drawn_from_is_approached(estimate: Estimate) -> None:
    fresh = drawn(20_000, seed=1)
    true = fresh * np.log(4.0) - 4.0 - np.array([np.log(np.arange(1.0, k + 1)).sum() for k in fresh])
    assert abs(np.mean(true - log_probability(estimate, drawn(), fresh))) < 0.01


@EVERY_KIND
def test_a_class_without_rows_is_as_all_rows_are(estimate: Estimate) -> None:
    x, at = drawn(), np.arange(10.0)
    alone = np.column_stack([np.ones(4000), np.zeros(4000)])
    empty = estimate(x).density(alone).log_density(at)[1]
    np.testing.assert_allclose(empty, log_probability(estimate, x, at), atol=0.02)


@EVERY_COUNT
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_count_leaves_every_other_possible_and_less_likely(
    estimate: Estimate, value: float
) -> None:
    at = log_probability(estimate, np.full(1000, value), value + np.array([0.0, 3.0, 30.0, 3000.0]))
    assert np.isfinite(at).all()
    assert (np.diff(at) < -1.0).all()


def test_varying_rates_are_told_from_a_constant_one() -> None:
    rng = np.random.default_rng(0)
    x = rng.negative_binomial(2.0, 0.2, size=20_000).astype(float)
    density = NegativeBinomialEstimate(x).density(np.ones((20_000, 1)))
    assert density.arrays()["size"][0] == pytest.approx(2.0, rel=0.1)
    assert NegativeBinomialEstimate(np.full(100, 5.0)).density(np.ones((100, 1))).arrays()["size"][0] == 1e6


def test_a_value_never_seen_is_as_probable_as_those_seen_once_together() -> None:
    rare = np.concatenate([np.repeat([0.0, 1.0], [600, 391]), np.arange(2.0, 11.0)])
    usual = np.repeat([0.0, 1.0], [600, 400])
    of_rare = np.exp(log_probability(lambda x: CategoricalEstimate(x, 11), rare, np.array([11.0])))[0]
    of_usual = np.exp(log_probability(lambda x: CategoricalEstimate(x, 2), usual, np.array([2.0])))[0]
    assert of_rare == pytest.approx(9 / 1000, rel=0.02)
    assert of_usual == pytest.approx(1 / 1000, rel=0.02)


def test_of_two_values_there_is_no_third() -> None:
    density = CategoricalEstimate(np.zeros(100), 2, closed=True).density(np.ones((100, 1)))
    at = density.log_density(np.array([0.0, 1.0, 2.0]))[0]
    assert at[1] == pytest.approx(np.log(0.5 / 101), rel=0.01)
    assert np.isneginf(at[2])
