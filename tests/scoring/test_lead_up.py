"""Tests for scoring.lead_up."""

import numpy as np

from detector.models.contract import Explanation
from detector.scoring.lead_up import most_surprising


def test_every_feature_is_told_of_where_it_surprised_most() -> None:
    nats = np.array([[9.0, 1.0, np.nan, 7.0], [2.0, 3.0, np.nan, 1.0]])
    expected = np.arange(8.0).reshape(2, 4)
    records = [Explanation(nats[i : i + 1], expected[i : i + 1], 10.0 + expected[i : i + 1]) for i in (0, 1)]
    newest = np.array([False, False, False, True])
    found, values = most_surprising(records, [np.full(4, 100.0), np.full(4, 200.0)], newest)
    np.testing.assert_array_equal(found.nats, [[9.0, 3.0, np.nan, 1.0]])
    np.testing.assert_array_equal(found.expected, [[0.0, 5.0, 2.0, 7.0]])
    np.testing.assert_array_equal(found.std, [[10.0, 15.0, 12.0, 17.0]])
    np.testing.assert_array_equal(values, [100.0, 200.0, 100.0, 200.0])
