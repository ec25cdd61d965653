"""The next record is expected at its entity's usual value in this phase of a cycle: of an hour, of a machine.

Usual is what training saw, and how far the entity has been from that in this phase of late, so a cycle that
slowly changes its form, or whose length is known but nearly, is followed.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Arrays, Prediction
from detector.models.moving_mean import moving_mean
from detector.models.sequences import runs_of, starts_of

_LARGEST_TAUGHT = 5.0
_TAUGHT_BY_A_CYCLE = 0.1


@dataclass(frozen=True, slots=True)
class CyclicPredictor:
    """Expects a profile over the phases of one cycle, moved phase by phase by what was seen there of late.

    Between the middles of two phases the profile is a straight line. The state of an entity is how far every
    feature has been from it in each phase, a moving mean to which one cycle contributes a tenth; a missing
    value leaves it as it is. How far values usually are from the profile is known of each phase, too.
    """

    name: ClassVar[str] = "cyclic"
    each_by_itself: ClassVar[bool] = True
    profile: FloatArray
    """In the middle of each of B phases, standardised, shape (M, B, D)."""
    spread: FloatArray
    """Of the values of a phase about the profile, shape (M, B, D), positive."""
    period_s: float
    begins_s: float
    """When a cycle began, seconds since 1970 UTC, and with it phase 0."""
    records: float
    """How many records an entity has in one cycle."""

    @property
    def warmup_records(self) -> int:
        return 0

    @property
    def n_phases(self) -> int:
        return int(self.profile.shape[1])

    @property
    def state_size(self) -> int:
        return int(self.profile.shape[1] * self.profile.shape[2])

    def initial_state(self, n: int) -> FloatArray:
        return np.zeros((n, self.state_size))

    def phase_of(self, time: FloatArray) -> FloatArray:
        """Return where in the cycle times are, in phases, shape (N,), in [0, B)."""
        share = np.mod((time - self.begins_s) / self.period_s, 1.0)
        # The last instant of a cycle must not be rounded into a phase that does not exist.
        return np.asarray(np.minimum(share * self.n_phases, np.nextafter(self.n_phases, 0.0)))

    def scan(
        self, rows: FloatArray, x: FloatArray, time: FloatArray, lengths: IntArray, model: IntArray
    ) -> Prediction:
        entity = np.repeat(np.arange(len(lengths)), lengths)
        at = self.phase_of(time)
        usual = between(self.profile, model[entity], at)
        phase = at.astype(np.int64)
        # The records of one entity in one phase are a run, in time order, with a mean of its own.
        key = entity * self.n_phases + phase
        order = np.argsort(key, kind="stable")
        visits = runs_of(key[order])
        visited = key[order][starts_of(visits)]
        off = rows.reshape(-1, x.shape[1]).copy()
        taught = np.clip(np.nan_to_num(x - usual), -_LARGEST_TAUGHT, _LARGEST_TAUGHT)[order]
        weight = np.where(np.isnan(x[order]), 0.0, self._weight)
        before, off[visited] = moving_mean(off[visited], taught, weight, visits)
        expected = np.empty_like(usual)
        expected[order] = usual[order] + before
        spread = self.spread[model[entity], phase]
        return Prediction(off.reshape(rows.shape), expected, np.zeros((len(x), 0), dtype=bool), spread)

    @property
    def _weight(self) -> float:
        """Of one record, where several may lie in one phase."""
        return min(_TAUGHT_BY_A_CYCLE, _TAUGHT_BY_A_CYCLE * self.n_phases / self.records)

    def hide(self, rows: FloatArray, hidden: BoolArray) -> FloatArray:
        return rows

    def arrays(self) -> Arrays:
        cycle = np.array([self.period_s, self.begins_s, self.records])
        return {"profile": self.profile, "spread": self.spread, "cycle": cycle}

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_features: int) -> Self:
        profile, spread, cycle = arrays["profile"], arrays["spread"], arrays["cycle"]
        if profile.ndim != 3 or profile.shape[2] != n_features or spread.shape != profile.shape:
            raise ValueError(
                f"profile {profile.shape} and spread {spread.shape} must both be (M, B, {n_features})"
            )
        if not (np.isfinite(profile).all() and np.isfinite(spread).all() and (spread > 0).all()):
            raise ValueError("profile or spread is not finite in some phase, or a spread is not positive")
        if cycle.shape != (3,) or not (np.isfinite(cycle).all() and cycle[0] > 0 and cycle[2] > 0):
            raise ValueError(f"cycle {cycle.tolist()} must be a period > 0, a beginning, and records > 0")
        period_s, begins_s, records = cycle.tolist()
        return cls(profile, spread, period_s, begins_s, records)


def between(profile: FloatArray, model: IntArray, phase: FloatArray) -> FloatArray:
    """Return the profile where rows are between the middles of phases, shape (N, D).

    Args:
        profile: Shape (M, B, D).
        model: Of each row, shape (N,).
        phase: Of each row, shape (N,), in [0, B).
    """
    n_phases = profile.shape[1]
    first = np.floor(phase - 0.5)
    share = (phase - 0.5 - first)[:, None]
    before = first.astype(np.int64) % n_phases
    after = (before + 1) % n_phases
    return np.asarray((1.0 - share) * profile[model, before] + share * profile[model, after])
