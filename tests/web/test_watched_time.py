"""Tests for detector.web.watched_time."""

import numpy as np
import pytest

from detector.web.watched_time import LONGEST_GAP_INTERVALS, WatchedTime


def by_hand(batches: list[tuple[list[int], list[float]]], longest_gap_s: float) -> float:
    """Record by record, in a dictionary; for gaps within a batch below the cap."""
    newest: dict[int, float] = {}
    total = 0.0
    for slots, times in batches:
        for slot, time in zip(slots, times, strict=True):
            total += min(time - newest.get(slot, time), longest_gap_s)
            newest[slot] = time
    return total


def test_agrees_with_record_by_record() -> None:
    rng = np.random.default_rng(2)
    newest = np.full(7, 1e9)
    batches = []
    for _ in range(30):
        slots = rng.integers(0, 7, size=int(rng.integers(1, 20)))
        times = []
        for slot in slots:
            newest[slot] += rng.uniform(0, 10)
            times.append(float(newest[slot]))
        batches.append((slots.tolist(), times))
    watched = WatchedTime(interval_s=10.0)
    total = sum(watched.add(np.array(slots), np.array(times)) for slots, times in batches)
    assert total == pytest.approx(by_hand(batches, 30.0))


def test_a_long_silence_was_not_watched() -> None:
    watched = WatchedTime(interval_s=60.0)
    watched.add(np.array([0]), np.array([0.0]))
    assert watched.add(np.array([0]), np.array([86400.0])) == LONGEST_GAP_INTERVALS * 60


def test_the_first_record_of_an_entity_adds_nothing() -> None:
    watched = WatchedTime(interval_s=60.0)
    assert watched.add(np.array([3, 1]), np.array([1e9, 2e9])) == 0
    watched.forget(np.array([3, 50]))
    assert watched.add(np.array([3]), np.array([1e9 + 60])) == 0
    assert watched.add(np.array([1]), np.array([2e9 + 60])) == 60


def test_no_records_add_nothing() -> None:
    assert WatchedTime(60.0).add(np.array([], dtype=np.int64), np.array([])) == 0
