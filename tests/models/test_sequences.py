"""Tests for detector.models.sequences."""

import numpy as np

from detector.models.sequences import rows_of_each


def test_rows_of_each_group_are_found_in_order_and_a_group_may_have_none() -> None:
    found = rows_of_each(np.array([3, 0, 3, 1, 0]), 5)
    assert [rows.tolist() for rows in found] == [[1, 4], [3], [], [0, 2], []]


def test_no_rows_leave_every_group_empty() -> None:
    assert [rows.size for rows in rows_of_each(np.zeros(0, dtype=np.int64), 3)] == [0, 0, 0]
