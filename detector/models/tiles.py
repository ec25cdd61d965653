"""Linear algebra over tiles of a fixed number of records, so that batch size changes no result by a bit.

BLAS picks its kernels by the shape of the operands, so the same record multiplied in a batch of 1 and in
a batch of 1,000 can differ in its last bits, and a replay would not repeat. Here records are columns of
tiles that always have the same width: the last tile is padded with zero records, and every product has the
same shape whatever the batch. With widths that are multiples of 16 a column's bits depend neither on its
position nor on its neighbours; the tests of this module hold that on the machine they run on.
"""

from collections.abc import Callable

import numpy as np

from detector.batch import FloatArray

Kernel = Callable[[FloatArray], FloatArray]
"""From tiles of columns, shape (B, D, T), to results per column, shape (B, M, T)."""

_FLOATS_AT_ONCE = 1 << 17
"""Intermediate values per call of a kernel: about 1 MiB, which stays in a core's cache."""


def map_tiles(kernel: Kernel, x: FloatArray, n_results: int, tile: int, floats_per_record: int) -> FloatArray:
    """Apply a kernel to every record, through tiles of exactly ``tile`` records.

    Args:
        kernel: Takes shape (B, D, tile), returns (B, n_results, tile); each column of the result may
            depend on the same column of the input only. It may write into its input.
        x: Records, shape (N, D), no NaN.
        n_results: M, results per record.
        tile: T, records per tile, a multiple of 16.
        floats_per_record: Size of the kernel's largest intermediate, which bounds the tiles per call.

    Returns:
        Shape (N, M).
    """
    n, n_features = x.shape
    result = np.empty((n, n_results))
    at_once = tile * max(1, _FLOATS_AT_ONCE // (tile * max(1, floats_per_record)))
    for start in range(0, n, at_once):
        chunk = x[start : start + at_once]
        n_tiles = -(-len(chunk) // tile)
        padded = np.zeros((n_tiles * tile, n_features))
        padded[: len(chunk)] = chunk
        columns = np.ascontiguousarray(padded.reshape(n_tiles, tile, n_features).transpose(0, 2, 1))
        by_record = kernel(columns).transpose(0, 2, 1).reshape(n_tiles * tile, n_results)
        result[start : start + at_once] = by_record[: len(chunk)]
    return result
