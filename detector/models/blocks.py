"""Blocks of an entity's records, which begin at the same records wherever batches begin."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.sequences import runs_of, starts_of

_WHOLE_S = 60.0


class Block(NamedTuple):
    """The rows of a batch that fall into one block each of some runs."""

    rows: IntArray
    """Shape (n,), run after run."""
    runs: IntArray
    """Shape (R,), ascending."""
    lengths: IntArray
    """Rows of each, shape (R,), each >= 1."""
    completes: BoolArray
    """Shape (R,), whether the run's block ends with them."""


def blocks_of(seen: IntArray, lengths: IntArray, size: int) -> Iterator[Block]:
    """Return the blocks in the order in which they are to be worked through.

    Args:
        seen: Records of each run's open block before the batch, shape (E,), below ``size``.
        lengths: Rows of each run, shape (E,), each >= 1.
        size: Records of a block.
    """
    run = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(run)) - starts_of(lengths)[run] + seen[run]
    block = position // size
    for b in range(int(block.max(initial=-1)) + 1):
        rows = np.flatnonzero(block == b)
        own = runs_of(run[rows])
        runs = run[rows[starts_of(own)]]
        ends = rows[starts_of(own) + own - 1]
        yield Block(rows, runs, own, position[ends] % size == size - 1)


def teaching_weight(gap_s: FloatArray) -> FloatArray:
    """Return how much each record teaches, in [0, 1]: one a minute counts whole.

    Of faster records each says little that the one before did not, and an incident of ten minutes must not
    become normal because it has six hundred of them.

    Args:
        gap_s: Seconds since the entity's record before, NaN for its first, shape (N,).
    """
    # In 64ths, so that sums of weights are exact, in whatever order they are made.
    return np.nan_to_num(np.rint(64.0 * np.clip(gap_s / _WHOLE_S, 0.0, 1.0)) / 64.0, nan=1.0)
