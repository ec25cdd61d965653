"""The time that clocks show where traffic is made: UTC and an offset that changes at few instants."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from detector.batch import FloatArray
from detector.models.contract import Arrays

_ARRAY = "utc_offset"


@dataclass(frozen=True, slots=True)
class LocalTime:
    """Offsets from UTC, each from one instant on; the first also holds before."""

    from_s: FloatArray
    """Seconds since 1970 UTC, shape (T,), T >= 1, ascending."""
    offset_s: FloatArray
    """Seconds that clocks are ahead of UTC, shape (T,)."""

    def of(self, time: FloatArray) -> FloatArray:
        """Return what clocks show, as the UTC at which a clock of UTC would show the same, shape (N,).

        Args:
            time: Seconds since 1970 UTC, shape (N,).
        """
        offset = np.maximum(np.searchsorted(self.from_s, time, side="right") - 1, 0)
        return np.asarray(time + self.offset_s[offset])

    def arrays(self) -> Arrays:
        """Return the offsets, ready for safetensors; of UTC nothing, as in bundles from before zones."""
        if not self.offset_s.any():
            return {}
        return {_ARRAY: np.column_stack([self.from_s, self.offset_s])}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Rebuild from ``arrays()``, among others.

        Raises:
            ValueError: The array has a wrong shape, is not in order, or holds a value that is not finite.
        """
        changes = arrays.get(_ARRAY, np.zeros((1, 2)))
        if changes.ndim != 2 or changes.shape[1] != 2 or not len(changes):
            raise ValueError(f"{_ARRAY} {changes.shape} must be (T, 2), T >= 1")
        if not np.isfinite(changes).all() or (np.diff(changes[:, 0]) <= 0).any():
            raise ValueError(f"{_ARRAY} holds a value that is not finite, or instants that do not ascend")
        return cls(changes[:, 0].copy(), changes[:, 1].copy())


UTC = LocalTime(np.zeros(1), np.zeros(1))
"""Where clocks are never put back or forward."""
