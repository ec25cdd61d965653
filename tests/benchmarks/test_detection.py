"""Tests for benchmarks.detection and the peers that it compares with."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.data_sets import read
from benchmarks.detection import by_family, by_peer, quality, ranking
from benchmarks.peer_models import PEERS, SANITY, diagonal_gaussian, histogram_naive_bayes
from tests.benchmarks.made_data import write_data


def test_ranks_follow_p_values_and_among_equal_ones_log_likelihood() -> None:
    p_value = np.array([0.5, 0.1, 0.5, 0.5, np.nan])
    log_likelihood = np.array([-1.0, -1.0, -2.0, -1.0, np.nan])
    scored = np.array([True, True, True, True, False])
    assert ranking(p_value, log_likelihood, scored).tolist() == [1, 3, 2, 1, 0]


def test_quality_of_a_perfect_and_of_a_reversed_ranking() -> None:
    labels = np.array([False, False, True, True])
    assert quality(np.array([1.0, 2.0, 3.0, np.inf]), labels) == (1.0, 1.0)
    assert quality(np.array([4.0, 3.0, 2.0, 1.0]), labels)[1] == 0.0


def test_quality_of_rows_of_one_kind_is_unknown() -> None:
    assert np.isnan(quality(np.array([1.0, 2.0]), np.array([False, False]))).all()


@pytest.mark.parametrize("predictor", ["none", "autoregressive"])
def test_a_family_scores_every_row_to_test_and_finds_what_is_far_off(tmp_path: Path, predictor: str) -> None:
    series = read(write_data(tmp_path / "data"), "smd", "server", seed=0)
    detection = by_family(series, "gmm", predictor, seed=0)
    # An unscored row has rank 0: the past of the first row to test comes from the training rows.
    assert detection.anomaly.shape == (len(series.test),)
    assert detection.anomaly.min() > 0
    assert quality(detection.anomaly, series.test_labels)[1] > 0.9


@pytest.mark.parametrize("peer", PEERS | SANITY)
def test_each_peer_finds_what_is_far_off(tmp_path: Path, peer: str) -> None:
    series = read(write_data(tmp_path / "data"), "smd", "server", seed=0)
    detection = by_peer(series, (PEERS | SANITY)[peer], seed=0)
    assert quality(detection.anomaly, series.test_labels) == pytest.approx((1.0, 1.0), abs=0.1)


def test_histogram_surprise_agrees_with_counting_by_hand() -> None:
    train = np.array([[0.0], [0.5], [0.5], [10.0]])
    score = histogram_naive_bayes(train, 0)
    # Bins of width one from 0 to 10, one row added to each: three, none and one of the four rows, and 11.
    by_hand = -np.log(np.array([4.0, 1.0, 2.0, 1.0, 1.0]) / 15.0)
    np.testing.assert_allclose(score(np.array([[0.9], [4.5], [10.0], [10.1], [-0.1]])), by_hand)


def test_diagonal_gaussian_is_not_blinded_by_a_constant_feature() -> None:
    train = np.array([[1.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_allclose(diagonal_gaussian(train, 0)(np.array([[2.0, 0.0], [0.0, 3.0]])), [4.0, 9.0])
