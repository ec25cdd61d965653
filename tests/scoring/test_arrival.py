"""Tests for detector.scoring.arrival."""

import numpy as np

from detector.batch import Status
from detector.scoring.arrival import refused


def test_agrees_with_looking_at_one_record_after_the_other() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        lengths = rng.integers(1, 9, rng.integers(1, 6))
        n = int(lengths.sum())
        time, values = (
            rng.integers(0, 5, n).astype(float),
            np.where(rng.uniform(size=(n, 2)) < 0.5, np.nan, 1.0),
        )
        newest = np.where(rng.uniform(size=len(lengths)) < 0.5, -np.inf, 2.0)
        newest_values = np.where(rng.uniform(size=(len(lengths), 2)) < 0.5, np.nan, 1.0)
        expected = []
        row = 0
        for e, length in enumerate(lengths.tolist()):
            seen, last = newest[e], newest_values[e]
            for _ in range(length):
                own = values[row]
                if time[row] < seen:
                    expected.append(Status.LATE)
                elif time[row] == seen and np.array_equal(own, last, equal_nan=True):
                    expected.append(Status.DUPLICATE)
                else:
                    expected.append(Status.SCORED)
                    seen, last = time[row], own
                row += 1
        order = rng.permutation(n)
        shuffled = np.empty_like(values)
        shuffled[order] = values
        found = refused(time, shuffled, order, newest, newest_values, lengths)
        assert (found.tolist() if found is not None else [Status.SCORED] * n) == expected


def test_records_in_order_take_no_second_look() -> None:
    time, values, newest = np.arange(3.0), np.zeros((3, 1)), np.array([-np.inf])
    assert refused(time, values, np.arange(3), newest, np.zeros((1, 1)), np.array([3])) is None
