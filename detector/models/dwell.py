"""How long an entity has been in its most probable state, and which one it left: five floats per entity."""

from dataclasses import dataclass

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.sequences import lagged, running_last

DWELL_SIZE = 5
_STATE, _FOR_US, _LEFT, _LEFT_FOR_US, _STEPS = range(DWELL_SIZE)
_UNKNOWN = -1.0
# Stays are whole microseconds, so that their sums are exact and no cut of a run changes a bit.
_US = 1e6
_LONGEST_GAP_S = 1e9


@dataclass(frozen=True, slots=True)
class Dwell:
    """Where one entity is and was, as far as its most probable states tell."""

    state: int
    for_s: float
    """Since the record at which it came to the state; 0 at that record."""
    left: int | None
    """The state before; None where there was none."""
    left_for_s: float
    """How long it was in that, up to the record at which it left."""
    steps: int
    """Transitions between the two, more than one after a silence."""


def initial_dwell(n: int) -> FloatArray:
    """Return the rows of entities never seen, shape (n, 5)."""
    return np.tile([_UNKNOWN, 0.0, _UNKNOWN, 0.0, 1.0], (n, 1))


def follow(
    dwell: FloatArray,
    states: IntArray,
    gap_s: FloatArray,
    extra: IntArray | None,
    starts: IntArray,
    lengths: IntArray,
) -> None:
    """Move rows, shape (E, 5), past N records of E entities, entity after entity, in place.

    Args:
        dwell: Rows before the records, and after them.
        states: The most probable state after each record, shape (N,).
        gap_s: Seconds since the entity's previous record, shape (N,); NaN for its first.
        extra: Transitions beyond one before each record, shape (N,); None where there are none.
        starts: First record of each entity, shape (E,).
        lengths: Records of each entity, shape (E,).
    """
    gap_us = np.rint(np.fmin(np.fmax(gap_s, 0.0), _LONGEST_GAP_S) * _US)
    if len(states) == len(dwell):
        _follow_one_each(dwell, states, gap_us, extra)
        return
    # Microseconds since the first record of the call, before each record and after the last.
    clock = np.zeros(len(states) + 1, dtype=np.int64)
    np.cumsum(gap_us.astype(np.int64), out=clock[1:])
    last = starts + lengths - 1
    previous = lagged(states.astype(np.float64), dwell[:, _STATE], starts)
    moved = states != previous
    before_us = dwell[:, _FOR_US].copy()
    dwell[:, _FOR_US] += clock[last + 1] - clock[starts]
    if not moved.any():
        return
    newest_move = running_last(moved, starts, lengths)
    entity = np.flatnonzero(newest_move[last] >= 0)
    start = starts[entity]
    move = newest_move[last[entity]]
    # The state that was left had been entered at the move before, or before these records.
    came = np.where(move > start, newest_move[move - 1], -1)
    since = np.where(came >= 0, came + 1, start)
    already = np.where(came >= 0, 0.0, before_us[entity])
    dwell[entity, _STATE] = states[move]
    dwell[entity, _FOR_US] = clock[last[entity] + 1] - clock[move + 1]
    dwell[entity, _LEFT] = previous[move]
    dwell[entity, _LEFT_FOR_US] = already + (clock[move + 1] - clock[since])
    dwell[entity, _STEPS] = 1.0 if extra is None else extra[move] + 1.0


def _follow_one_each(dwell: FloatArray, states: IntArray, gap_us: FloatArray, extra: IntArray | None) -> None:
    """Do the same for one record of each entity, the common case, in fewer operations."""
    dwell[:, _FOR_US] += gap_us
    moved = np.flatnonzero(states != dwell[:, _STATE])
    if moved.size:
        now, was = np.zeros((moved.size, DWELL_SIZE)), dwell[moved]
        now[:, _STATE] = states[moved]
        now[:, _LEFT] = was[:, _STATE]
        now[:, _LEFT_FOR_US] = was[:, _FOR_US]
        now[:, _STEPS] = 1.0 if extra is None else extra[moved] + 1.0
        dwell[moved] = now


def dwell_of(row: FloatArray) -> Dwell:
    """Return one entity's row, shape (5,), in words and seconds."""
    left = int(row[_LEFT])
    return Dwell(
        state=int(row[_STATE]),
        for_s=float(row[_FOR_US]) / _US,
        left=None if left < 0 else left,
        left_for_s=float(row[_LEFT_FOR_US]) / _US,
        steps=int(row[_STEPS]),
    )
