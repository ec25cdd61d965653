"""Faint evidence added up: a causal average of surprise, which is calibrated like surprise itself."""

from dataclasses import dataclass

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Averaged
from detector.models.moving_mean import moving_mean

# One record counts for no more than so many times the spread of normal averages: one that has no likelihood
# at all must not be remembered for ever.
MOST_SPREADS = 1000.0


@dataclass(frozen=True, slots=True)
class TimeScale:
    """Over how many records surprise is averaged."""

    weight: float = 1.0
    """Of the newest record, in (0, 1]; 1: every record by itself."""
    confirming: float | None = None
    """The weight in a faster average, which has to confirm a slow one: that one remembers what is over."""
    averaged: Averaged = "surprise"
    """Or deviation with its sign, as ``drift`` has it: from what was expected, or from usual frequencies."""

    def __post_init__(self) -> None:
        for weight in self.weights:
            if not 0 < weight <= 1:
                raise ValueError(f"the weight of the newest record is {weight}; it must be in (0, 1]")
        if self.adds_up and (not self.is_average or self.confirming is not None):
            raise ValueError(
                f"{self.averaged} is averaged over more than one record, and no faster average confirms it"
            )

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the average itself, and of the one that confirms it."""
        return (self.weight,) if self.confirming is None else (self.weight, self.confirming)

    @property
    def is_average(self) -> bool:
        return self.weight < 1

    @property
    def adds_up(self) -> bool:
        """Return whether it is deviations with their sign that are averaged, not surprise."""
        return self.averaged != "surprise"

    @property
    def records(self) -> int:
        """About how many records an average is over."""
        return round(1 / self.weight)

    @property
    def text(self) -> str:
        """What follows the name of a member: ``, over 10 records``."""
        if not self.is_average:
            return ""
        what = {"surprise": "", "deviation": "drift ", "frequency": "frequencies "}[self.averaged]
        return f", {what}over {self.records} records"

    def average(
        self, before: FloatArray, surprise: FloatArray, counted: BoolArray, lengths: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the averages after each run, shape (E, A), and at each row, shape (N, A), one per weight.

        Args:
            before: Before each run, shape (E, A).
            surprise: Nats, shape (N,), entity after entity, each in time order; finite.
            counted: Shape (N,), rows that count; at others the average stays as it is.
            lengths: Records of each entity, shape (E,), each >= 1.
        """
        value = np.repeat(surprise[:, None], len(self.weights), axis=1)
        step = np.where(counted[:, None], np.array(self.weights), 0.0)
        mean, after = moving_mean(before, value, step, lengths)
        return after, mean + (value - mean) * step


BY_ITSELF = TimeScale()
"""No average."""
