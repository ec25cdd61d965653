"""Tests for benchmarks.nab_score: by hand, and against published detectors where their scores are at hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data_sets import entities, read
from benchmarks.event_metrics import alarm_runs
from benchmarks.nab_score import PROFILES, Profile, beginnings, best_score, every_record, score
from detector.batch import BoolArray

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
STANDARD = PROFILES["standard"]
WINDOW = np.array([[20, 29]])
NO_WINDOW = np.empty((0, 2), dtype=np.int64)


def detections(*rows: int, n: int = 100) -> BoolArray:
    marked = np.zeros(n, dtype=bool)
    marked[list(rows)] = True
    return marked


def sigmoid(position: float) -> float:
    return 2 / (1 + math.exp(5 * position)) - 1


def test_silence_scores_nothing_and_the_start_of_each_window_everything() -> None:
    for profile in PROFILES.values():
        assert score([detections()], [WINDOW], profile) == 0.0
        assert score([detections(20)], [WINDOW], profile) == pytest.approx(100.0)


def test_only_the_earliest_detection_of_a_window_counts_and_a_late_one_is_worth_less() -> None:
    late = score([detections(28)], [WINDOW], STANDARD)
    # Two of ten records are left, and one window is worth two: missing it costs as much as it gains.
    assert late == pytest.approx(100 * (sigmoid(-0.2) / sigmoid(-1.0) + 1) / 2)
    assert score([detections(28, 29)], [WINDOW], STANDARD) == pytest.approx(late)


def test_a_false_detection_costs_in_full_before_windows_and_less_close_behind_one() -> None:
    before, behind, far = (score([detections(20, row)], [WINDOW], STANDARD) for row in (5, 32, 90))
    assert before == pytest.approx(100 - 100 * 0.11 / 2)
    assert behind == pytest.approx(100 + 100 * 0.11 * sigmoid(3 / 9) / 2)
    assert far == pytest.approx(before)
    no_anomaly = score([detections(20), detections(7)], [WINDOW, NO_WINDOW], STANDARD)
    assert no_anomaly == pytest.approx(before)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("seed", range(3))
def test_the_best_threshold_agrees_with_trying_each(profile: Profile, seed: int) -> None:
    rng = np.random.default_rng(seed)
    windows = [np.array([[20, 29], [50, 59]]), NO_WINDOW]
    anomaly = [np.round(rng.random(100) * 30), np.round(rng.random(100) * 30)]
    anomaly[0][[22, 57]] += 25
    files = [every_record(own, at) for own, at in zip(anomaly, windows, strict=True)]
    tried = [
        score([own >= threshold for own in anomaly], windows, profile)
        for threshold in [*np.unique(anomaly), np.inf]
    ]
    assert best_score(files, profile) == pytest.approx(max(tried))


@pytest.mark.parametrize("seed", range(3))
def test_where_runs_begin_agrees_with_looking_for_them_at_each_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    windows = [np.array([[20, 29], [150, 189]]), NO_WINDOW]
    anomaly = [np.round(rng.random(200) ** 4 * 90) for _ in windows]
    tried = []
    for threshold in [*np.unique(np.concatenate(anomaly)), np.inf]:
        begins = [np.zeros(200, dtype=bool) for _ in windows]
        for own, marked in zip(anomaly, begins, strict=True):
            marked[alarm_runs(own >= threshold)[:, 0]] = True
        tried.append(score(begins, windows, STANDARD))
    files = [beginnings(own, at) for own, at in zip(anomaly, windows, strict=True)]
    assert best_score(files, STANDARD) == pytest.approx(max(tried))


def test_a_corpus_without_windows_has_no_score() -> None:
    assert np.isnan(score([detections(1)], [NO_WINDOW], STANDARD))


@pytest.mark.parametrize(
    ("detector", "published"),
    [
        ("numenta", (72.17, 65.81, 76.74)),
        ("windowedGaussian", (38.26, 20.18, 46.72)),
        ("random", (16.03, 8.22, 28.26)),
    ],
)
def test_published_detectors_get_their_published_scores(
    detector: str, published: tuple[float, float, float]
) -> None:
    file = DATA / "nab" / "published_scores.npz"
    if not file.exists():
        pytest.skip(f"{file} is not there: the scores of published detectors are no part of this repository")
    with np.load(file, allow_pickle=False) as scores:
        files = []
        for entity in entities(DATA, "nab"):
            series = read(DATA, "nab", entity, seed=0)
            files.append(every_record(scores[f"{detector}:{entity}.csv"][series.n_train :], series.events))
    found = [best_score(files, profile) for profile in PROFILES.values()]
    assert found == pytest.approx(published, abs=0.005)
