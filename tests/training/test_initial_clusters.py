"""Tests for detector.training.initial_clusters."""

import numpy as np
import pytest

from detector.training.initial_clusters import initial_clusters

pytest.importorskip("sklearn")


def test_finds_two_groups_with_their_shares_and_spreads() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-4.0, 1.0, (300, 1)), rng.normal(4.0, 0.5, (100, 1))])
    clusters = initial_clusters(x, 2, 0.001, seed=0)
    order = np.argsort(clusters.means[:, 0])
    np.testing.assert_allclose(clusters.weights[order], [0.75, 0.25])
    np.testing.assert_allclose(clusters.means[order, 0], [-4.0, 4.0], atol=0.2)
    np.testing.assert_allclose(clusters.covariances[order, 0, 0], [1.0, 0.25], atol=0.2)


def test_outliers_take_no_cluster_from_the_body() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-3.0, 1.0, (1000, 1)), rng.normal(3.0, 1.0, (1000, 1)), [[5000.0]]])
    means = np.sort(initial_clusters(x, 2, 0.001, seed=0).means[:, 0])
    np.testing.assert_allclose(means, [-3.0, 3.0], atol=0.2)


def test_more_clusters_than_distinct_rows_still_have_a_spread() -> None:
    clusters = initial_clusters(np.zeros((50, 2)), 4, 0.001, seed=0)
    assert clusters.weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(clusters.covariances, np.tile(0.001 * np.eye(2), (4, 1, 1)))
