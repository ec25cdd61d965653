"""Values that stay exactly the same for longer than the operator allows: what a stuck sensor sends.

No likelihood sees that, since a value that stays is what is expected. So the run of equal values of every
feature with such a rule is followed, from one value to the next: a record without one neither ends a run nor
counts. Nobody knows what a value was between two records, so a gap that is far longer than usual counts for
no more than a usual one: silence makes nothing stuck.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from detector.alerting.event import Explained
from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.sequences import lagged, running_last_of_columns, starts_of

_FAR_LONGER = 5.0
"""So many usual gaps: records that are lost now and then do not matter."""
_REPEATED = 2
"""So often at least a value comes again before it is stuck."""


class _Run(NamedTuple):
    """The newest run of equal values of E entities, in S features each; NaN before the first value."""

    value: FloatArray
    since: FloatArray
    """Time of its first record."""
    time: FloatArray
    """Of the newest record with a value, and ..."""
    gap_s: FloatArray
    """... how long after the one before that was."""
    silence_s: FloatArray
    """How much of the time since then does not count, whole seconds."""
    repeats: FloatArray
    """Records but the first."""


class Stayed(NamedTuple):
    """What n records say of S features that may not stay the same."""

    rules: "StuckRules"
    state: FloatArray
    """After, shape (E, 6, S)."""
    stuck: BoolArray
    """Which values have stayed for too long, shape (n, S)."""
    since: FloatArray
    """When the run of each began, shape (n, S)."""


@dataclass(frozen=True, slots=True)
class StuckRules:
    """Which of D features may not stay the same, and for how long: S of them, shape (S,) each."""

    columns: IntArray
    after_s: FloatArray

    @classmethod
    def of(cls, after_s: Sequence[float]) -> Self | None:
        """Return the rules of D features, infinite where one may stay for ever; None where all may."""
        columns = np.flatnonzero(np.isfinite(after_s))
        return cls(columns, np.asarray(after_s, dtype=np.float64)[columns]) if columns.size else None

    def initial_state(self, n: int) -> FloatArray:
        """Return the state of entities never seen, shape (n, 6, S)."""
        return np.full((n, len(_Run._fields), self.columns.size), np.nan)

    def told_before(self, feature_names: Sequence[str], told: Explained) -> FloatArray:
        """Return the state of an entity after an alert about it, shape (1, 6, S): what was stuck is so."""
        state = self.initial_state(1)
        stuck = {reason.feature: reason.stuck for reason in told.reasons}
        for s, column in enumerate(self.columns.tolist()):
            run = stuck.get(feature_names[column])
            if run is not None:
                state[0, :, s] = run.value, run.since, told.time, np.nan, 0.0, _REPEATED
        return state

    def follow(
        self, state: FloatArray, x: FloatArray, time: FloatArray, lengths: IntArray, interval_s: float
    ) -> Stayed:
        """Follow the values of n records of E entities, entity after entity, each in time order.

        Of the last two gaps between values the shorter one is usual; of all the usual interval is the least.

        Args:
            state: Before, shape (E, 6, S).
            x: As decoded, shape (n, D); NaN is missing.
            time: Seconds since 1970 UTC, shape (n,).
            lengths: Records of each entity, shape (E,), each >= 1.
            interval_s: Usual time between two records of any entity.
        """
        known = _Run(*np.moveaxis(state, 1, 0))
        starts = starts_of(lengths)
        entity = np.repeat(np.arange(len(lengths)), lengths)
        value = x.take(self.columns, axis=1)
        when = np.broadcast_to(time[:, None], value.shape)
        present = ~np.isnan(value)
        newest = running_last_of_columns(present, starts, lengths)
        last = lagged(newest, np.full(known.value.shape, -1), starts)

        gap_s = when - _at(last, when, known.time[entity])
        before_s = _at(last, gap_s, known.gap_s[entity])
        same = present & (value == _at(last, value, known.value[entity]))
        usual_s = np.fmax(interval_s, np.fmin(gap_s, np.nan_to_num(before_s)))
        # In whole seconds, so that sums are exact, in whatever order they are made.
        silence_s = np.where(same & (gap_s > _FAR_LONGER * usual_s), np.floor(gap_s - usual_s), 0.0)

        begin = running_last_of_columns(present & ~same, starts, lengths)
        since = _at(begin, when, known.since[entity])

        def in_run(column: FloatArray, before: FloatArray) -> FloatArray:
            """Return the sum of a column over each row's run up to it."""
            total = np.cumsum(column, axis=0)
            at_start = (total - column)[starts] - before
            return total - _at(begin, total, at_start[entity])

        silence_s = in_run(silence_s, known.silence_s)
        repeats = in_run(same.astype(np.float64), known.repeats)
        stuck = present & (repeats >= _REPEATED) & (when - since - silence_s >= self.after_s)
        ends = starts + lengths - 1
        after = _Run(
            _at(newest[ends], value, known.value),
            since[ends],
            _at(newest[ends], when, known.time),
            _at(newest[ends], gap_s, known.gap_s),
            silence_s[ends],
            repeats[ends],
        )
        return Stayed(self, np.stack(after, axis=1), stuck, since)


def _at(row: IntArray, column: FloatArray, otherwise: FloatArray) -> FloatArray:
    """Return values of given rows of every column, shape (m, S); those otherwise where the row is -1."""
    return np.where(row >= 0, np.take_along_axis(column, np.maximum(row, 0), axis=0), otherwise)
