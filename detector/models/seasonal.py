"""The next record is expected at its entity's usual value at this time of day, on such a day of the week."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Arrays, Prediction
from detector.models.local_time import UTC, LocalTime

DAY_S = 86_400.0
BIN_S = 1800.0
BINS_PER_DAY = 48
# Working days first, then Saturday and Sunday.
N_BINS = 2 * BINS_PER_DAY


def season_of(time: FloatArray) -> IntArray:
    """Return the half-hour of the day, plus 48 on Saturday and Sunday: shape (N,), in [0, 96).

    Args:
        time: What clocks show, as ``LocalTime.of`` gives it, shape (N,).
    """
    day = np.floor(time / DAY_S)
    half_hour = np.floor((time - day * DAY_S) / BIN_S).astype(np.int64)
    # 1970-01-01 was a Thursday; Monday is 0.
    weekend = (day.astype(np.int64) + 3) % 7 >= 5
    # The last instant of a day must not be rounded into a bin that does not exist.
    season: IntArray = np.minimum(half_hour, BINS_PER_DAY - 1) + BINS_PER_DAY * weekend
    return season


@dataclass(frozen=True, slots=True)
class SeasonalPredictor:
    """Expects a profile over the half-hours of working days and of weekends; remembers nothing."""

    name: ClassVar[str] = "seasonal"
    profile: FloatArray
    """Shape (M, 96, D), standardised."""
    local_time: LocalTime = UTC
    """Whose half-hours."""

    @property
    def warmup_records(self) -> int:
        return 0

    @property
    def state_size(self) -> int:
        return 0

    def initial_state(self, n: int) -> FloatArray:
        return np.empty((n, 0))

    def scan(
        self, rows: FloatArray, x: FloatArray, time: FloatArray, lengths: IntArray, model: IntArray
    ) -> Prediction:
        expected = self.profile[np.repeat(model, lengths), season_of(self.local_time.of(time))]
        return Prediction(rows, expected, np.zeros((len(x), 0), dtype=bool))

    def hide(self, rows: FloatArray, hidden: BoolArray) -> FloatArray:
        return rows

    def arrays(self) -> Arrays:
        return {"profile": self.profile} | self.local_time.arrays()

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_features: int) -> Self:
        profile = arrays["profile"]
        if profile.ndim != 3 or profile.shape[1:] != (N_BINS, n_features):
            raise ValueError(f"profile {profile.shape} must be (M, {N_BINS}, {n_features})")
        if not np.isfinite(profile).all():
            raise ValueError("profile holds a value that is not finite")
        return cls(profile, LocalTime.from_arrays(arrays))
