"""The next record is expected at its entity's usual value at this time of day, on such a day of the week.

Usual is what training saw, and how far the entity has been from that of late: a level that has moved for good
is usual again after a few days, while one that is wrong for some hours is not.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Arrays, Prediction
from detector.models.local_time import UTC, LocalTime
from detector.models.moving_mean import moving_mean
from detector.models.sequences import lagged, starts_of

DAY_S = 86_400.0
BIN_S = 1800.0
BINS_PER_DAY = 48
# Working days first, then Saturday and Sunday.
N_BINS = 2 * BINS_PER_DAY
# Of what is known of how far an entity is from its profile.
_HALF_LIFE_S = DAY_S
# A single record, after a gap or of a stream with few a day, and a single absurd value, move it by little.
_MOST, _LARGEST_TAUGHT = 0.05, 5.0


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
    """Expects a profile over the half-hours of working days and of weekends, moved by a slow mean.

    The mean is of how far the entity has been from the profile, with a half-life of a day; a missing value
    leaves it as it is. The state is that of every feature, 0 at first, and the time of the newest record.
    """

    name: ClassVar[str] = "seasonal"
    each_by_itself: ClassVar[bool] = True
    profile: FloatArray
    """Shape (M, 96, D), standardised."""
    local_time: LocalTime = UTC
    """Whose half-hours."""

    @property
    def warmup_records(self) -> int:
        return 0

    @property
    def state_size(self) -> int:
        return int(self.profile.shape[2]) + 1

    def initial_state(self, n: int) -> FloatArray:
        state = np.zeros((n, self.state_size))
        state[:, -1] = np.nan
        return state

    def scan(
        self, rows: FloatArray, x: FloatArray, time: FloatArray, lengths: IntArray, model: IntArray
    ) -> Prediction:
        usual = self.profile[np.repeat(model, lengths), season_of(self.local_time.of(time))]
        starts = starts_of(lengths)
        # Of the first record nobody knows for how long it stands.
        passed_s = np.nan_to_num(time - lagged(time, rows[:, -1], starts))
        moves = np.minimum(-np.expm1(-np.log(2.0) / _HALF_LIFE_S * passed_s), _MOST)
        weight = np.where(np.isnan(x), 0.0, moves[:, None])
        taught = np.clip(np.nan_to_num(x - usual), -_LARGEST_TAUGHT, _LARGEST_TAUGHT)
        off, off_after = moving_mean(rows[:, :-1], taught, weight, lengths)
        after = np.column_stack([off_after, time[starts + lengths - 1]])
        return Prediction(after, usual + off, np.zeros((len(x), 0), dtype=bool))

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
