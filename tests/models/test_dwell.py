"""Tests for detector.models.dwell."""

import numpy as np
import pytest

from detector.batch import FloatArray, IntArray
from detector.models.dwell import DWELL_SIZE, Dwell, dwell_of, follow, initial_dwell
from detector.models.sequences import starts_of

NO_GAP = np.nan


def followed(
    dwell: FloatArray, states: IntArray, gap_s: FloatArray, extra: IntArray | None, lengths: IntArray
) -> FloatArray:
    after = dwell.copy()
    follow(after, states, gap_s, extra, starts_of(lengths), lengths)
    return after


def by_hand(states: list[int], gap_s: list[float], extra: list[int]) -> Dwell:
    """One entity's records, one after the other."""
    state, for_s, left, left_for_s, steps = states[0], 0.0, None, 0.0, 1 + extra[0]
    for now, gap, more in zip(states[1:], gap_s[1:], extra[1:], strict=True):
        for_s += gap
        if now != state:
            state, for_s, left, left_for_s, steps = now, 0.0, state, for_s, 1 + more
    return Dwell(state, for_s, left, left_for_s, steps)


def test_an_entity_that_never_moved_has_left_nothing() -> None:
    rows = followed(initial_dwell(1), np.array([2, 2, 2]), np.array([NO_GAP, 60.0, 0.5]), None, np.array([3]))
    assert dwell_of(rows[0]) == Dwell(2, 60.5, None, 0.0, 1)


def test_a_move_tells_the_state_left_and_the_stay_in_it_until_then() -> None:
    states, gap_s = np.array([3, 3, 3, 1, 1]), np.array([NO_GAP, 60.0, 60.0, 30.0, 10.0])
    extra = np.array([0, 0, 4, 2, 0])
    rows = followed(initial_dwell(1), states, gap_s, extra, np.array([5]))
    assert dwell_of(rows[0]) == Dwell(1, 10.0, 3, 150.0, 3)


@pytest.mark.parametrize("stickiness", [0.0, 0.9])
@pytest.mark.parametrize("share_of_silences", [0.0, 0.2])
def test_agrees_with_following_one_record_after_the_other_however_runs_are_cut(
    stickiness: float, share_of_silences: float
) -> None:
    rng = np.random.default_rng(0)
    lengths = np.array([40, 1, 7, 25])
    n = int(lengths.sum())
    states = rng.integers(0, 3, size=n)
    for t in range(1, n):
        if rng.random() < stickiness:
            states[t] = states[t - 1]
    gap_s = np.round(rng.exponential(60.0, size=n), 6)
    gap_s[starts_of(lengths)] = np.nan
    extra = np.where(rng.random(n) < share_of_silences, 5, 0)
    together = followed(initial_dwell(4), states, gap_s, extra, lengths)
    for e, (start, length) in enumerate(zip(starts_of(lengths), lengths, strict=True)):
        own = slice(int(start), int(start + length))
        expected = by_hand(states[own].tolist(), gap_s[own].tolist(), extra[own].tolist())
        found = dwell_of(together[e])
        assert (found.state, found.left, found.steps) == (expected.state, expected.left, expected.steps)
        assert found.for_s == pytest.approx(expected.for_s, abs=1e-9)
        assert found.left_for_s == pytest.approx(expected.left_for_s, abs=1e-9)
        for cuts in ([1], [2, 3, 20], list(range(1, length))):
            rows = initial_dwell(1)
            for part in np.split(np.arange(own.start, own.stop), [cut for cut in cuts if cut < length]):
                rows = followed(rows, states[part], gap_s[part], extra[part], np.array([len(part)]))
            np.testing.assert_array_equal(rows[0], together[e])


def test_no_gap_and_an_endless_one_leave_finite_rows() -> None:
    rows = followed(
        initial_dwell(2), np.array([0, 1]), np.array([np.nan, np.inf]), None, np.ones(2, dtype=np.int64)
    )
    assert rows.shape == (2, DWELL_SIZE)
    assert np.isfinite(rows).all()
