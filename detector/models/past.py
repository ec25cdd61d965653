"""The records before each record of its entity, as one slice of memory per record."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from detector.batch import FloatArray, IntArray
from detector.models.sequences import starts_of


@dataclass(frozen=True, slots=True)
class Past:
    """Runs of records with each entity's ring before them, laid end to end, so that a context is a slice."""

    flat: FloatArray
    begin: NDArray[np.int64]
    """Shape (N,), where each record's context begins in ``flat``."""
    last: NDArray[np.int64]
    """Shape (E,), index of each entity's last record."""
    width: int
    """C, values per context."""
    n_features: int

    @classmethod
    def of(cls, rows: FloatArray, x: FloatArray, lengths: IntArray) -> Self:
        """Lay out entities' rings, shape (E, C), and records, shape (N, D), without NaN."""
        n, n_features = x.shape
        n_rings, width = rows.shape
        depth = width // n_features
        starts = starts_of(lengths)
        at = np.arange(n) + np.repeat(np.arange(1, n_rings + 1) * depth, lengths)
        laid = np.empty((n + n_rings * depth, n_features))
        laid[at] = x
        ring_at = (starts + np.arange(n_rings) * depth)[:, None] + np.arange(depth)
        laid[ring_at] = rows.reshape(n_rings, depth, n_features)
        return cls(laid.reshape(-1), (at - depth) * n_features, starts + lengths - 1, width, n_features)

    def contexts(self, records: slice | NDArray[np.int64]) -> FloatArray:
        """Return the records before each of some records, flattened, oldest first, shape (n, C)."""
        return self._slices(self.begin[records])

    def after(self) -> FloatArray:
        """Return each entity's ring after its last record, shape (E, C)."""
        return self._slices(self.begin[self.last] + self.n_features)

    def _slices(self, begin: NDArray[np.int64]) -> FloatArray:
        if self.width == 0 or len(begin) == 0:
            return np.empty((len(begin), self.width))
        return sliding_window_view(self.flat, self.width)[begin]
