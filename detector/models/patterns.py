"""Records that lack the same features are scored together."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from detector.batch import BoolArray


def by_pattern(marked: BoolArray) -> Iterator[tuple[BoolArray, NDArray[np.intp]]]:
    """Yield each pattern, shape (D,), among ``marked``, shape (N, D), with the rows that have it."""
    packed = np.packbits(marked, axis=1)
    # As integers where they fit: sorting those is many times faster than sorting rows.
    fits = packed.shape[1] <= 8
    keys = np.pad(packed, ((0, 0), (0, 8 - packed.shape[1]))).view(np.uint64)[:, 0] if fits else packed
    _, first, group, counts = np.unique(
        keys, axis=None if fits else 0, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(counts)
    for index, start, end in zip(first, ends - counts, ends, strict=True):
        yield marked[index], order[start:end]
