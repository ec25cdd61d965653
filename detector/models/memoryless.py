"""What families have in common that judge every record by itself."""

from abc import ABC, abstractmethod

import numpy as np

from detector.batch import FloatArray, IntArray


class Memoryless(ABC):
    """The part of ``Family`` that is about an entity's past, for one that remembers nothing of it."""

    @property
    def state_size(self) -> int:
        return 0

    @property
    def warmup_records(self) -> int:
        """Records of an entity that must be seen before its scores are the long-running ones."""
        return 0

    def initial_state(self, n: int) -> FloatArray:
        return np.empty((n, 0))

    @abstractmethod
    def log_likelihood(self, x: FloatArray) -> FloatArray:
        """Return that of each record, whatever came before, shape (N,), from records of shape (N, D)."""

    def step(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        return rows, self.log_likelihood(x)

    def scan(
        self, rows: FloatArray, x: FloatArray, gap_s: FloatArray, lengths: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        return rows, self.log_likelihood(x)
