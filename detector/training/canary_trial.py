"""How loud fitted members are at canaries, and in the normal records that these were put into."""

from dataclasses import dataclass

import numpy as np

from detector.batch import BoolArray, FloatArray
from detector.models.sequences import runs_of, starts_of
from detector.training.canaries import make_canaries, stretches
from detector.training.member_evidence import evidence
from detector.training.train_member import FittedMember, Material

_COPIES = 5
# Of normal stretches, so many may be as loud as a canary that counts as found.
_LOUD_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Heard:
    """How loud a member or a committee is: minus the logarithm of the smallest p-value, nats."""

    newer: BoolArray
    """Shape (S,), whether a stretch is of the newer half."""
    stretches: FloatArray
    """Shape (S,)."""
    canaries: FloatArray
    """Shape (K,)."""

    @property
    def found(self) -> BoolArray:
        """Which canaries are louder than all but one in twenty normal stretches, shape (K,)."""
        return np.asarray(self.canaries > self._level)

    @property
    def older_alarms(self) -> float:
        """Return the share of the older stretches that are louder than that."""
        return self._alarms(~self.newer)

    @property
    def newer_alarms(self) -> float:
        """Return the share of the newer stretches that are louder than that."""
        return self._alarms(self.newer)

    def _alarms(self, of: BoolArray) -> float:
        loud = int((self.stretches[of] > self._level).sum())
        return loud / max(int(of.sum()), 1)

    @property
    def _level(self) -> float:
        rank = int(_LOUD_SHARE * self.stretches.size)
        return float(np.sort(self.stretches)[-1 - rank])


def together(members: list[Heard]) -> Heard:
    """Return how loud a committee is: as the loudest of its members."""
    return Heard(
        members[0].newer,
        np.max([member.stretches for member in members], axis=0),
        np.max([member.canaries for member in members], axis=0),
    )


class CanaryTrial:
    """The newest of some records, and copies of them with canaries.

    Args:
        material: Records that calibrate nothing; canaries are put into the held-out ones.
        continuous: Columns that may be changed, shape (D,).
        seed: Of the canaries.
    """

    def __init__(self, material: Material, continuous: BoolArray, seed: int) -> None:
        rows = material.rows
        self._places = stretches(rows.lengths, rows.held_out)
        columns = np.flatnonzero(continuous)
        self._copies = [
            make_canaries(rows.values, self._places, columns, seed + copy) for copy in range(_COPIES)
        ]
        # Halves of each run: drift must not hide behind many entities.
        run = rows.of_run[self._places[:, 0]]
        each = runs_of(run)
        place = np.arange(len(run)) - np.repeat(starts_of(each), each)
        self._newer: BoolArray = np.asarray(2 * place >= np.repeat(each, each))

    @property
    def n_canaries(self) -> int:
        """Return how many there are in all copies."""
        return sum(len(copy.where) for copy in self._copies)

    def hear(self, member: FittedMember) -> Heard:
        """Return how loud a member is that was fitted on these records."""
        rows = member.material.rows
        quiet = evidence(member, rows, rows.values)
        loud = []
        for copy in self._copies:
            heard = evidence(member, rows, copy.values)
            loud += [heard[first:end].max() for first, end in copy.where.tolist()]
        stretches = np.array([quiet[first:end].max() for first, end in self._places.tolist()])
        return Heard(self._newer, stretches, np.array(loud))
