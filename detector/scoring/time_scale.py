"""Faint evidence added up: a causal average of surprise, which is calibrated like surprise itself."""

from dataclasses import dataclass

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.moving_mean import moving_mean

# One record counts for no more than so many times the spread of normal averages: one that has no likelihood
# at all must not be remembered for ever.
MOST_SPREADS = 1000.0


@dataclass(frozen=True, slots=True)
class TimeScale:
    """Over how many records surprise is averaged."""

    weight: float = 1.0
    """Of the newest record, in (0, 1]; 1: every record by itself."""

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ValueError(f"the weight of the newest record is {self.weight}; it must be in (0, 1]")

    @property
    def is_average(self) -> bool:
        return self.weight < 1

    @property
    def records(self) -> int:
        """About how many records an average is over."""
        return round(1 / self.weight)

    def average(
        self, before: FloatArray, surprise: FloatArray, counted: BoolArray, lengths: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the average after each run, shape (E,), and at each row, shape (N,).

        Args:
            before: Before each run, shape (E,).
            surprise: Nats, shape (N,), entity after entity, each in time order; finite.
            counted: Shape (N,), rows that count; at others the average stays as it is.
            lengths: Records of each entity, shape (E,), each >= 1.
        """
        if not self.is_average:
            return before, surprise
        value = surprise[:, None]
        step = np.where(counted, self.weight, 0.0)[:, None]
        mean, after = moving_mean(before[:, None], value, step, lengths)
        return after[:, 0], (mean + (value - mean) * step)[:, 0]


BY_ITSELF = TimeScale()
"""No average."""
