"""Tests for detector.models.gaussians: marginals and conditionals of every pattern of missing features."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from detector.models.gaussians import Gaussians
from tests.models.families_by_hand import random_covariances, with_gaps


def random_gaussians(k: int, d: int, *, diagonal: bool = False, tied: bool = False) -> Gaussians:
    rng = np.random.default_rng(d)
    if diagonal:
        return Gaussians(rng.normal(size=(k, d)), rng.gamma(2.0, size=(k, d)))
    covariances = random_covariances(rng, 1 if tied else k, d)
    return Gaussians(rng.normal(size=(k, d)), covariances)


def full_covariances(gaussians: Gaussians) -> np.ndarray:
    if gaussians.is_diagonal:
        return np.stack([np.diag(variances) for variances in gaussians.covariances])
    return gaussians.covariances


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("d", [1, 2, 5, 20])
def test_marginals_are_those_of_the_covariance_block(d: int, diagonal: bool) -> None:
    gaussians = random_gaussians(3, d, diagonal=diagonal)
    x = with_gaps(np.random.default_rng(0).normal(size=(40, d)), share=0.4)
    result = gaussians.log_density(x)
    for record, log_density in zip(x, result, strict=True):
        seen = ~np.isnan(record)
        for k, covariance in enumerate(full_covariances(gaussians)):
            expected = 0.0
            if seen.any():
                block = multivariate_normal(gaussians.means[k, seen], covariance[np.ix_(seen, seen)])
                expected = block.logpdf(record[seen])
            assert log_density[k] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_diagonal_and_full_covariances_agree() -> None:
    diagonal = random_gaussians(4, 6, diagonal=True)
    full = Gaussians(diagonal.means, full_covariances(diagonal))
    x = with_gaps(np.random.default_rng(0).normal(size=(50, 6)))
    log_weights = np.tile(np.log([0.1, 0.2, 0.3, 0.4]), (50, 1))
    np.testing.assert_allclose(diagonal.log_density(x), full.log_density(x), rtol=1e-10, atol=1e-12)
    ours, other = diagonal.explain(log_weights, x), full.explain(log_weights, x)
    np.testing.assert_allclose(ours.nats, other.nats, rtol=1e-9)
    np.testing.assert_allclose(ours.expected, other.expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.std, other.std, rtol=1e-9)


@pytest.mark.parametrize("spread", [1.0, 1e4])
def test_tied_and_full_covariances_agree(spread: float) -> None:
    tied = random_gaussians(4, 6, tied=True)
    tied = Gaussians(spread * tied.means, tied.covariances)
    full = Gaussians(tied.means, np.repeat(tied.covariances, 4, axis=0))
    x = with_gaps(spread * np.random.default_rng(0).normal(size=(50, 6)))
    log_weights = np.tile(np.log([0.1, 0.2, 0.3, 0.4]), (50, 1))
    np.testing.assert_allclose(tied.log_density(x), full.log_density(x), rtol=1e-10, atol=1e-11)
    ours, other = tied.explain(log_weights, x), full.explain(log_weights, x)
    np.testing.assert_allclose(ours.nats, other.nats, rtol=1e-9)
    np.testing.assert_allclose(ours.expected, other.expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.std, other.std, rtol=1e-9)


@pytest.mark.parametrize("shape", ["full", "tied", "diagonal"])
def test_a_mixture_is_the_weighted_sum_of_the_densities(shape: str) -> None:
    gaussians = random_gaussians(3, 5, diagonal=shape == "diagonal", tied=shape == "tied")
    x = np.vstack([with_gaps(np.random.default_rng(0).normal(size=(50, 5))), np.full((1, 5), 1e155)])
    log_weights = np.log([0.2, 0.3, 0.5])
    expected = logsumexp(gaussians.log_density(x) + log_weights, axis=1)
    np.testing.assert_allclose(gaussians.log_mixture(log_weights, x), expected, rtol=1e-12, atol=1e-14)
    assert gaussians.log_mixture(log_weights, x[:0]).shape == (0,)


def test_more_patterns_than_are_remembered_change_no_bit() -> None:
    x = np.random.default_rng(0).normal(size=(600, 12))
    x = with_gaps(x, share=0.5)
    worn, fresh = random_gaussians(2, 12), random_gaussians(2, 12)
    first = worn.log_density(x)
    np.testing.assert_array_equal(worn.log_density(x[::-1])[::-1], first)
    np.testing.assert_array_equal(fresh.log_density(x[-100:]), first[-100:])


def test_explanation_is_the_conditional_of_one_gaussian() -> None:
    gaussians = random_gaussians(1, 4)
    mean, covariance = gaussians.means[0], gaussians.covariances[0]
    x = np.random.default_rng(0).normal(size=(1, 4))
    x[0, 3] = np.nan
    explanation = gaussians.explain(np.zeros((1, 1)), x)
    for j in range(4):
        others = [i for i in range(3) if i != j]
        gain = covariance[j, others] @ np.linalg.inv(covariance[np.ix_(others, others)])
        expected = mean[j] + gain @ (x[0, others] - mean[others])
        variance = covariance[j, j] - gain @ covariance[others, j]
        assert explanation.expected[0, j] == pytest.approx(expected, rel=1e-9)
        assert explanation.std[0, j] == pytest.approx(np.sqrt(variance), rel=1e-9)
    assert np.isnan(explanation.nats[0, 3])


def test_an_enormous_value_does_not_blur_what_the_others_expect_of_it() -> None:
    gaussians = random_gaussians(3, 5)
    ordinary = np.random.default_rng(0).normal(size=(1, 5))
    enormous = ordinary.copy()
    enormous[0, 2] = 1e12
    log_weights = np.log(np.full((1, 3), 1 / 3))
    ours = gaussians.explain(log_weights, enormous)
    other = gaussians.explain(log_weights, ordinary)
    assert ours.expected[0, 2] == other.expected[0, 2]
    assert ours.std[0, 2] == other.std[0, 2]
    assert ours.nats[0, 2] > 1e12


@pytest.mark.parametrize(
    "covariance", [[[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.5], [0.4, 1.0]], [[0.0, 0.0], [0.0, 1.0]]]
)
def test_what_is_no_covariance_is_refused(covariance: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="train the bundle again"):
        Gaussians(np.zeros((1, 2)), np.array([covariance]))


def test_records_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="the model has 3 features"):
        random_gaussians(2, 3).log_density(np.zeros((1, 4)))
