"""Tests for benchmarks.event_metrics: small cases by hand, and counting again at every threshold."""

import numpy as np
import pytest

from benchmarks.data_sets import runs
from benchmarks.event_metrics import (
    EventCounts,
    alarm_runs,
    best_f1,
    count_events,
    delays,
    false_alarms_in_calm,
    recall_at_best,
)
from detector.batch import BoolArray, FloatArray, IntArray

NO_EVENT = np.empty((0, 2), dtype=np.int64)


def alarms_at(*rows: int, n: int = 100) -> BoolArray:
    marked = np.zeros(n, dtype=bool)
    marked[list(rows)] = True
    return marked


def test_runs_are_unbroken_and_reach_both_ends() -> None:
    assert runs(np.array([True, True, False, True])).tolist() == [[0, 1], [3, 3]]
    assert runs(np.zeros(3, dtype=bool)).tolist() == []


def test_ten_records_between_alarms_are_bridged_and_eleven_are_not() -> None:
    assert alarm_runs(alarms_at(5, 16, 28)).tolist() == [[5, 16], [28, 28]]
    assert alarm_runs(alarms_at()).tolist() == []


def test_an_event_counts_once_and_a_run_beside_events_is_one_false_alarm() -> None:
    events = np.array([[10, 30], [60, 70], [90, 95]])
    # Two runs in the first event, one nowhere, one that reaches into the second; the third is missed.
    counts = count_events(alarms_at(10, 25, 40, 42, 58, 59, 60), events, days=2.0)
    assert counts == EventCounts(events=3, found=2, false_alarms=1, days=2.0)
    assert counts.precision == pytest.approx(2 / 3)
    assert counts.recall == pytest.approx(2 / 3)
    assert counts.f1 == pytest.approx(2 / 3)
    assert counts.false_alarms_per_day == 0.5


def test_silence_finds_nothing_and_without_events_there_is_no_recall() -> None:
    silent = count_events(alarms_at(), np.array([[1, 2]]), days=1.0)
    assert (silent.precision, silent.recall, silent.f1) == (0.0, 0.0, 0.0)
    calm = count_events(alarms_at(3), NO_EVENT, days=1.0)
    assert calm.false_alarms == 1
    assert np.isnan(calm.recall)
    assert np.isnan(calm.f1)


def test_delay_counts_records_of_the_event_before_its_first_alarm() -> None:
    events = np.array([[10, 20], [40, 45], [60, 70]])
    assert delays(alarms_at(5, 13, 15, 46, 60), events) == [3, 0]


def test_calm_time_leaves_out_events_and_the_alarms_that_reach_into_them() -> None:
    days = np.full(100, 0.01)
    # Rows 8 to 20 belong to the event and its run, the run at 50 is a false alarm and calm time.
    count, calm_days = false_alarms_in_calm(alarms_at(8, 12, 50), np.array([[10, 20]]), days)
    assert count == 1
    assert calm_days == pytest.approx(0.87)


def test_best_threshold_stops_before_one_false_alarm_too_many() -> None:
    anomaly = np.zeros(100)
    anomaly[[15, 40, 65, 92]] = [4.0, 3.0, 2.0, 1.0]
    events = np.array([[10, 20], [60, 70], [90, 95]])
    assert recall_at_best(anomaly, events, false_alarms=0) == pytest.approx(1 / 3)
    assert recall_at_best(anomaly, events, false_alarms=1) == 1.0
    assert np.isnan(recall_at_best(anomaly, NO_EVENT, false_alarms=1))


def test_equal_anomalies_alarm_together() -> None:
    anomaly = np.zeros(100)
    anomaly[[15, 40]] = 1.0
    assert recall_at_best(anomaly, np.array([[10, 20]]), false_alarms=0) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_agrees_with_counting_at_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    anomaly = np.round(rng.random(300) * 80)
    events = runs(np.convolve(rng.random(300) < 0.02, np.ones(6), mode="same") > 0.5)
    for allowed in (0, 1, 3):
        assert recall_at_best(anomaly, events, allowed) == pytest.approx(
            _by_counting(anomaly, events, allowed)
        )


def _by_counting(anomaly: FloatArray, events: IntArray, allowed: int) -> float:
    recall = 0.0
    for threshold in np.unique(anomaly)[::-1]:
        counts = count_events(anomaly >= threshold, events, days=1.0)
        if counts.false_alarms > allowed:
            break
        recall = counts.recall
    return recall


def test_best_f1_is_that_of_the_best_threshold() -> None:
    labels = np.array([True, False, True, False])
    # Thresholds give 1 of 1, 1 of 2, 2 of 3: F1 of 2/3, 1/2, 4/5.
    assert best_f1(np.array([4.0, 3.0, 2.0, 1.0]), labels) == pytest.approx(0.8)
    # The first two are equal, so no threshold parts them.
    assert best_f1(np.array([3.0, 3.0, 1.0, 1.0]), labels) == pytest.approx(2 / 3)
    assert np.isnan(best_f1(np.array([1.0]), np.array([False])))
