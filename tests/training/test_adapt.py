"""Tests for detector.training.adapt."""

import numpy as np
import pytest

from detector.models.gmm import Gmm
from detector.training.adapt import adapt_gmm, adapt_naive_bayes
from tests.made import fitting
from tests.models.families_by_hand import random_gmm, random_naive_bayes, with_gaps

POOLED = random_gmm(3, 4)


def adapted(other: Gmm, n: int) -> Gmm:
    return adapt_gmm(POOLED, fitting(other.sample(n, np.random.default_rng(0))))


def mean_log_likelihood(model: Gmm, of: Gmm) -> float:
    return float(model.log_likelihood(of.sample(4000, np.random.default_rng(1))).mean())


@pytest.mark.parametrize("n", [30, 300])
def test_rows_of_another_mixture_become_likelier_the_more_they_are(n: int) -> None:
    other = random_gmm(3, 4, seed=1)
    fewer, more = adapted(other, n), adapted(other, 10 * n)
    assert mean_log_likelihood(POOLED, other) < mean_log_likelihood(fewer, other)
    assert mean_log_likelihood(fewer, other) < mean_log_likelihood(more, other)


def test_rows_of_the_pooled_mixture_change_little() -> None:
    assert mean_log_likelihood(adapted(POOLED, 300), POOLED) > mean_log_likelihood(POOLED, POOLED) - 0.2


def test_a_component_that_is_not_visited_stays_where_it_was() -> None:
    means = np.array([[0.0, 0.0], [50.0, 50.0]])
    pooled = Gmm(np.array([0.5, 0.5]), means, np.stack([np.eye(2)] * 2))
    x = np.random.default_rng(0).normal(size=(400, 2)) + 1.0
    arrays = adapt_gmm(pooled, fitting(x)).arrays()
    np.testing.assert_allclose(arrays["means"], [[1.0, 1.0], [50.0, 50.0]], atol=0.2)
    np.testing.assert_allclose(arrays["covariances"][1], np.eye(2), atol=0.01)
    assert arrays["weights"][1] == pytest.approx(0.05 / 400.1)


def test_one_component_has_the_moments_of_its_rows_and_those_of_the_prior_together() -> None:
    """By hand: the prior's 2 D rows are real ones here, with exactly the prior's moments."""
    pooled = Gmm(np.ones(1), np.array([[3.0, -1.0]]), np.array([[[2.0, 0.0], [0.0, 2.0]]]))
    of_prior = np.array([[3.0, -1.0]]) + 2.0 * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    x = np.random.default_rng(0).normal(size=(50, 2))
    together = np.vstack([x, of_prior])
    arrays = adapt_gmm(pooled, fitting(x)).arrays()
    np.testing.assert_allclose(arrays["means"][0], together.mean(axis=0))
    np.testing.assert_allclose(arrays["covariances"][0], np.cov(together.T, bias=True), atol=2e-3)


def test_naive_bayes_keeps_its_classes_and_kinds_and_learns_their_densities() -> None:
    pooled, other = random_naive_bayes(2, 3), random_naive_bayes(2, 3, seed=1)
    x, later = (with_gaps(other.sample(1000, np.random.default_rng(seed)), share=0.1) for seed in (0, 1))
    own = adapt_naive_bayes(pooled, fitting(x))
    assert own.kinds == pooled.kinds
    assert own.n_classes == 2
    likely, likelier, likeliest = (np.nanmean(m.log_likelihood(later)) for m in (pooled, own, other))
    assert likelier > likely + 0.5 * (likeliest - likely)


def test_naive_bayes_of_too_few_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="naive Bayes with 2 classes over 3 features has 13 parameters"):
        adapt_naive_bayes(random_naive_bayes(2, 3), fitting(np.random.default_rng(0).normal(size=(20, 3))))


def test_gaps_and_constant_features_are_no_obstacle() -> None:
    x = with_gaps(random_gmm(3, 4, seed=1).sample(300, np.random.default_rng(0)), share=0.1)
    x[:, 2] = 0.5
    model = adapt_gmm(POOLED, fitting(x))
    assert np.isfinite(model.log_likelihood(x[:299])).all()
