"""Tests for detector.models.discrete_densities: each kind is a distribution, and a kind replaces another."""

import numpy as np
import pytest
from scipy.stats import chisquare, nbinom, poisson

from detector.models.discrete_densities import (
    CategoricalFeature,
    NegativeBinomialFeature,
    PoissonFeature,
    TabulatedFeature,
)
from detector.models.feature_densities import FeatureDensity

POISSON = PoissonFeature(np.array([0.7, 12.0]))
NEGATIVE_BINOMIAL = NegativeBinomialFeature(np.array([0.7, 12.0]), np.array([0.5, 3.0]))
TABULATED = TabulatedFeature(np.array([[0.2, 0.5, 0.2, 0.1], [0.0, 0.0, 0.9, 0.1]]), np.array([2.0]))
CATEGORICAL = CategoricalFeature(np.array([[0.5, 0.3, 0.1, 0.1], [0.0, 0.2, 0.79, 0.01]]))
COUNTS: list[FeatureDensity] = [POISSON, NEGATIVE_BINOMIAL, TABULATED]
EVERY_COUNT = pytest.mark.parametrize("density", COUNTS, ids=[density.kind for density in COUNTS])
EVERY_KIND = pytest.mark.parametrize(
    "density", [*COUNTS, CATEGORICAL], ids=[density.kind for density in [*COUNTS, CATEGORICAL]]
)


@EVERY_COUNT
@pytest.mark.parametrize("c", [0, 1])
def test_mass_expectation_and_spread_are_those_of_a_distribution(density: FeatureDensity, c: int) -> None:
    counts = np.arange(5000.0)
    probability = np.exp(density.log_density(counts)[c])
    mean = (probability * counts).sum()
    expected, std = (values[0] for values in density.expectation(np.eye(2)[c : c + 1]))
    assert probability.sum() == pytest.approx(1.0, abs=1e-12)
    assert expected == pytest.approx(mean, rel=1e-9)
    assert std == pytest.approx(np.sqrt((probability * (counts - mean) ** 2).sum()), rel=1e-9)


@EVERY_KIND
@pytest.mark.parametrize("c", [0, 1])
def test_samples_follow_the_distribution(density: FeatureDensity, c: int) -> None:
    x = density.sample(np.full(20_000, c), np.random.default_rng(1))
    values = np.arange(3.0 if isinstance(density, CategoricalFeature) else 8.0)
    probability = np.exp(density.log_density(values)[c])
    if isinstance(density, CategoricalFeature):
        probability /= probability.sum()
        assert x.max() < density.n_values
    seen = np.append((x[:, None] == values).sum(axis=0), (x > values[-1]).sum())
    possible = np.append(probability, 1.0 - probability.sum()) > 1e-9
    expected = 20_000 * np.append(probability, 1.0 - probability.sum())[possible]
    assert (seen[~possible] == 0).all()
    assert chisquare(seen[possible], expected).pvalue > 0.001


COUNTS_TO_COMPARE = np.array([0.0, 1.0, 7.0, 500.0, 1023.0, 1024.0, 1025.0, 5000.0, 1e6, 3e9])


def test_poisson_probabilities_are_scipys() -> None:
    rate = np.array([0.01, 7.0, 3000.0, 1e6])
    ours = PoissonFeature(rate).log_density(COUNTS_TO_COMPARE)
    np.testing.assert_allclose(ours, poisson.logpmf(COUNTS_TO_COMPARE, rate[:, None]), rtol=1e-9)


def test_negative_binomial_probabilities_are_scipys() -> None:
    mean, size = np.array([0.01, 7.0, 3000.0, 1e6]), np.array([0.3, 1.0, 40.0, 1e5])
    ours = NegativeBinomialFeature(mean, size).log_density(COUNTS_TO_COMPARE)
    theirs = nbinom.logpmf(COUNTS_TO_COMPARE, size[:, None], (size / (size + mean))[:, None])
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_a_negative_binomial_of_large_size_is_poisson() -> None:
    rate = np.array([3.0, 2000.0])
    counts = np.concatenate([np.arange(10.0), np.arange(1900.0, 2100.0)])
    np.testing.assert_allclose(
        NegativeBinomialFeature(rate, np.full(2, 1e9)).log_density(counts),
        PoissonFeature(rate).log_density(counts),
        rtol=1e-5,
        atol=1e-4,
    )


def test_beyond_the_table_counts_fall_by_one_nat_per_scale() -> None:
    at = TABULATED.log_density(np.array([0.0, 2.0, 3.0, 5.0, 103.0]))[0]
    np.testing.assert_allclose(at[:2], np.log([0.2, 0.2]), rtol=1e-12)
    np.testing.assert_allclose(np.diff(at[2:]), [-1.0, -49.0], rtol=1e-12)


@EVERY_COUNT
def test_the_larger_a_count_the_less_likely_without_end(density: FeatureDensity) -> None:
    at = density.log_density(np.array([50.0, 100.0, 1e3, 1e6, 1e12, 1e100]))
    assert np.isfinite(at).all()
    assert (np.diff(at, axis=1) < 0).all()
    assert not np.isnan(density.log_density(np.array([1e300, 1.7e308]))).any()


@EVERY_COUNT
def test_what_is_no_count_is_outside_the_support(density: FeatureDensity) -> None:
    assert np.isneginf(density.log_density(np.array([-1.0, -0.5, 0.5, 2.5, 1500.5, -1e9]))).all()


def test_a_value_outside_the_vocabulary_has_its_own_probability_and_no_category_none() -> None:
    at = np.exp(CATEGORICAL.log_density(np.array([0.0, 2.0, 3.0, 4.0, -1.0, 0.5, 1e300])))
    np.testing.assert_allclose(at[0], [0.5, 0.1, 0.1, 0.0, 0.0, 0.0, 0.0], rtol=1e-12)
    np.testing.assert_allclose(at[1], [0.0, 0.79, 0.01, 0.0, 0.0, 0.0, 0.0], rtol=1e-12)


def test_the_likeliest_category_is_expected_and_has_no_spread() -> None:
    expected, std = CATEGORICAL.expectation(np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.4]]))
    np.testing.assert_array_equal(expected, [0.0, 2.0, 2.0])
    assert np.isnan(std).all()


@EVERY_KIND
def test_the_number_of_values_changes_no_bit(density: FeatureDensity) -> None:
    x = np.concatenate([np.arange(40.0), [np.nan, -1.0, 0.5], np.arange(1000.0, 1050.0), [1e6, 1e300]])
    one_by_one = np.hstack([density.log_density(x[n : n + 1]) for n in range(len(x))])
    np.testing.assert_array_equal(density.log_density(x), one_by_one)
    weights = np.random.default_rng(0).dirichlet(np.ones(2), size=40)
    together = density.expectation(weights)
    for n in range(40):
        alone = density.expectation(weights[n : n + 1])
        np.testing.assert_array_equal(np.array(alone)[:, 0], np.array(together)[:, n])


@pytest.mark.parametrize(
    ("density", "name", "value", "message"),
    [
        (POISSON, "rate", np.array([1.0, 0.0]), "positive"),
        (NEGATIVE_BINOMIAL, "size", np.array([1.0, -1.0]), "positive"),
        (TABULATED, "probabilities", np.ones((2, 1)), "tabulates no count"),
        (TABULATED, "tail_scale", np.zeros(1), "positive"),
        (CATEGORICAL, "probabilities", np.array([[0.0, 1.0], [0.5, 0.5]]), "no value a chance"),
        (CATEGORICAL, "probabilities", np.full((2, 4), 0.3), "no distribution"),
    ],
)
def test_arrays_of_no_distribution_are_refused(
    density: FeatureDensity, name: str, value: np.ndarray, message: str
) -> None:
    arrays = {f"d_{key}": array for key, array in density.arrays().items()} | {f"d_{name}": value}
    with pytest.raises(ValueError, match=message):
        type(density).from_arrays(arrays, "d_", 2)
