"""Exponentially weighted means of many runs at once, row by row."""

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.sequences import starts_of


def moving_mean(
    mean: FloatArray, x: FloatArray, weight: FloatArray, lengths: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Return the mean before each row, shape (N, D), and after each run, shape (E, D).

    Args:
        mean: Before the first row of each run, shape (E, D).
        x: Rows of runs laid end to end, shape (N, D).
        weight: How far the mean moves towards each value, in [0, 1], shape (N, D).
        lengths: Rows of each run, shape (E,), each >= 1.

    Every round takes one record of all entities that still have one. The arithmetic is element by
    element, so the bits of a row do not depend on the others.
    """
    by_length = np.argsort(-lengths, kind="stable")
    mean = mean[by_length]
    together = len(lengths) > 1 and lengths[by_length[0]] > 1
    if together:
        rank = np.empty_like(by_length)
        rank[by_length] = np.arange(len(lengths))
        position = np.arange(len(x)) - np.repeat(starts_of(lengths), lengths)
        order = np.lexsort((np.repeat(rank, lengths), position))
        x, weight = x[order], weight[order]
        # How many entities have more than k records.
        active = np.bincount(position)
    else:
        # One entity, or one record each: the rows already lie round after round.
        active = np.full(1 if len(lengths) > 1 else len(x), len(lengths))
    expected = np.empty_like(x)
    change = np.empty_like(mean)
    start = 0
    for n in active.tolist():
        now, moved, part = mean[:n], change[:n], slice(start, start + n)
        expected[part] = now
        np.subtract(x[part], now, out=moved)
        np.multiply(moved, weight[part], out=moved)
        np.add(now, moved, out=now)
        start += n
    after = np.empty_like(mean)
    after[by_length] = mean
    if not together:
        return expected, after
    in_order = np.empty_like(expected)
    in_order[order] = expected
    return in_order, after
