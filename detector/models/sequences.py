"""Runs of records laid end to end: entity after entity, each in time order."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from detector.batch import BoolArray, FloatArray, IntArray

T = TypeVar("T", bound=np.generic)


def starts_of(lengths: IntArray) -> IntArray:
    """Return the index of each run's first row, shape (E,)."""
    starts = np.zeros(len(lengths), dtype=np.int64)
    np.cumsum(lengths[:-1], out=starts[1:])
    return starts


def runs_of(keys: NDArray[np.int64]) -> IntArray:
    """Return the lengths of the runs of equal values in ``keys``, shape (E,)."""
    if keys.size == 0:
        return np.empty(0, dtype=np.int64)
    edges = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    return np.diff(np.concatenate(([0], edges, [keys.size])))


def rows_of_each(group: IntArray, n: int) -> list[IntArray]:
    """Return the rows of each of n groups, rising, without looking at all rows once for every group.

    Args:
        group: Of each row, shape (N,), in [0, n).
    """
    return np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group, minlength=n))[:-1])


def lagged(x: NDArray[T], before: NDArray[T], starts: IntArray) -> NDArray[T]:
    """Return each row's predecessor, shape (N, ...): ``before`` (E, ...) at the first row of a run."""
    past = np.empty_like(x)
    past[1:] = x[:-1]
    past[starts] = before
    return past


def running_last(marked: BoolArray, starts: IntArray, lengths: IntArray) -> IntArray:
    """Return for each row the index of the last marked row of its run up to it, -1 where none."""
    index = np.where(marked, np.arange(marked.size), -1)
    last = np.maximum.accumulate(index)
    return np.where(last >= np.repeat(starts, lengths), last, -1)


def running_last_of_columns(marked: BoolArray, starts: IntArray, lengths: IntArray) -> IntArray:
    """Return the same for every column of ``marked``, shape (N, C), by itself."""
    index = np.where(marked, np.arange(len(marked))[:, None], -1)
    last = np.maximum.accumulate(index, axis=0)
    return np.where(last >= np.repeat(starts, lengths)[:, None], last, -1)


def running_maximum(value: FloatArray, run: IntArray) -> FloatArray:
    """Return the largest value of each row's run up to it, shape (N,); numbers of runs are rising."""
    # Ranks that grow with the run, so that one running maximum starts afresh with every run.
    values, rank = np.unique(value, return_inverse=True)
    highest = np.maximum.accumulate(run * values.size + rank)
    return np.asarray(values[highest - run * values.size])
