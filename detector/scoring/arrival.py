"""Which records come too late to count, or for the second time: both change nothing of what is known.

A record is late where one of its entity that came before has a later time. It is a duplicate where the last
one that counted has the same time and the same values: a producer that tried again wrote it twice. The same
time with other values is another record.
"""

import numpy as np
from numpy.typing import NDArray

from detector.batch import BoolArray, FloatArray, IntArray, Status
from detector.models.sequences import lagged, starts_of


def refused(
    time: FloatArray,
    values: FloatArray,
    order: IntArray,
    newest: FloatArray,
    newest_values: FloatArray,
    lengths: IntArray,
) -> NDArray[np.int8] | None:
    """Return why records do not count, shape (N,), ``Status.SCORED`` where they do; None if all of them do.

    Args:
        time: Of N records, entity after entity, each entity's as they arrived.
        values: Of records in any order, shape (M, D).
        order: Which of them these are, shape (N,).
        newest: Time of each entity's newest record before, shape (E,), -inf without one.
        newest_values: Its values, shape (E, D).
        lengths: Records of each entity, shape (E,), each >= 1.
    """
    starts = starts_of(lengths)
    previous = lagged(time, newest, starts)
    if not (time <= previous).any():
        return None
    late = _late(time, previous, newest, lengths)
    status = np.where(late, np.int8(Status.LATE), np.int8(Status.SCORED))
    # What came before, and was not late: the last such record, or the one from before all of these.
    entity = np.repeat(np.arange(len(lengths)), lengths)
    on_time = np.flatnonzero(~late)
    first = np.ones(on_time.size, dtype=bool)
    first[1:] = entity[on_time[1:]] != entity[on_time[:-1]]
    before_time = np.where(first, newest[entity[on_time]], np.roll(time[on_time], 1))
    rows = np.flatnonzero(time[on_time] == before_time)
    # As bits, since a missing value is the same as a missing one.
    own = _bits(values[order[on_time[rows]]])
    before = _bits(values[order[on_time[rows - 1]]])
    before[first[rows]] = _bits(newest_values[entity[on_time[rows[first[rows]]]]])
    status[on_time[rows[(own == before).all(axis=1)]]] = Status.DUPLICATE
    return status


def _bits(values: FloatArray) -> NDArray[np.uint64]:
    return np.ascontiguousarray(values).view(np.uint64)


def _late(time: FloatArray, previous: FloatArray, newest: FloatArray, lengths: IntArray) -> BoolArray:
    backwards: BoolArray = time < previous
    if not backwards.any():
        return backwards
    # Times as ranks, so that one running maximum over (entity, rank) starts afresh with every entity.
    starts = starts_of(lengths)
    entity = np.repeat(np.arange(len(lengths)), lengths)
    instants, rank = np.unique(np.concatenate((newest, time)), return_inverse=True)
    own, before = rank[len(newest) :], rank[: len(newest)]
    newest_so_far = np.maximum.accumulate(entity * instants.size + np.maximum(own, before[entity]))
    newest_before = lagged(newest_so_far, np.arange(len(lengths)) * instants.size + before, starts)
    late: BoolArray = entity * instants.size + own < newest_before
    return late
