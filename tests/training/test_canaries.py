"""Tests for detector.training.canaries and detector.training.canary_trial."""

import numpy as np

from detector.training.canaries import STRETCH, make_canaries, stretches
from detector.training.canary_trial import Heard, together

LENGTHS = np.array([400, 120])


def places() -> np.ndarray:
    may = np.zeros(520, dtype=bool)
    may[150:400] = True
    may[460:] = True
    return stretches(LENGTHS, may)


def test_stretches_are_of_the_newest_records_of_one_run() -> None:
    first = [150, 200, 250, 300, 350, 460]
    np.testing.assert_array_equal(places(), [(f, f + STRETCH) for f in first])


def test_every_other_stretch_holds_one_canary_and_nothing_else_changes() -> None:
    values = np.random.default_rng(0).normal(size=(520, 3))
    made = make_canaries(values, places(), np.array([0, 2]), seed=1)
    inside = np.zeros(520, dtype=bool)
    for (first, end), (begin, last) in zip(made.where, places()[1::2], strict=True):
        assert begin <= first < end <= last
        inside[first:end] = True
        # What is stuck stays as it was in its first record.
        assert (made.values[first:end, [0, 2]] != values[first:end, [0, 2]]).any()
    np.testing.assert_array_equal(made.values[~inside], values[~inside])
    np.testing.assert_array_equal(made.values[:, 1], values[:, 1])


def test_what_is_missing_stays_missing_and_a_seed_makes_the_same_again() -> None:
    values = np.random.default_rng(0).normal(size=(520, 2))
    values[300:320, 0] = np.nan
    one, same, other = (make_canaries(values, places(), np.arange(2), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.values, same.values)
    assert not np.array_equal(one.values, other.values, equal_nan=True)
    assert np.isnan(one.values[:, 0]).sum() >= 10


def test_found_is_what_is_louder_than_all_but_one_normal_stretch_in_twenty() -> None:
    newer = np.arange(40) >= 20
    heard = Heard(newer, np.arange(40.0), np.array([37.0, 37.5, 50.0]))
    assert heard.found.tolist() == [False, True, True]
    assert (heard.older_alarms, heard.newer_alarms) == (0.0, 0.1)


def test_a_committee_is_as_loud_as_its_loudest_member() -> None:
    newer = np.array([False, True])
    one = Heard(newer, np.array([1.0, 5.0]), np.array([3.0]))
    other = Heard(newer, np.array([2.0, 4.0]), np.array([9.0]))
    both = together([one, other])
    assert (both.stretches.tolist(), both.canaries.tolist()) == ([2.0, 5.0], [9.0])
