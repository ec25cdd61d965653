"""Keep the budget where traffic is louder or calmer than held-out traffic was: thresholds of entities' own.

Whatever an entity's threshold, episodes are counted at many levels at once, and at each as the alerts
would be that had it for their threshold: loud from there on, over after a calm run as far below as alerts
ask for, and the same one if it is back within the cooldown. So what is counted does not depend on what
fires, and nothing can run away; an incident counts once at every level below its peak, and what comes and
goes about a level, however loud it stays between, counts there each time. The threshold is the lowest
level at which no more is counted than the detector's threshold aims at, held-out traffic included. A few
incidents are borne in any case, or they would blind it; no threshold rises out of the reach of a single
record, however often the like has come; and none sinks by more than two nats, since calm traffic owes nobody
an alert.

Where p-values follow the traffic, loud traffic has made itself less improbable already, and held-out traffic
says little. So there thresholds only sink, from one at which nothing was counted, and by a nat.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from detector.alerting.budget import HeldOut, Threshold
from detector.alerting.rules import AlertRules
from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.sequences import lagged, running_last, running_last_of_columns, starts_of

N_LEVELS = 18
"""So many, up to six times the lowest, where a record reaches that."""
_SOFTEST, _STEP = 2.0, 1.12
_CALM = 2.1
"""Nats."""
_HELD_OUT_WEIGHT = 0.3
_BORNE = 3.0
_HALF_LIFE_S = 30 * 86400.0
_FARTHEST_IN_VAIN = 9.0
"""Nats above the detector's threshold, where none that a record reaches is high enough."""
_LOWEST, _LOWEST_WHILE_LEARNING = 2.0, 1.0
"""Nats below it."""
_OF_REACH = 0.95
"""Of the surprise of a record that is as improbable as can be."""

STEERING_STATE = np.dtype(
    [
        ("counts", np.float64, (N_LEVELS,)),
        ("watched_s", np.float64),
        ("time", np.float64),  # up to which the two above are
        ("calm_to_come", np.int32, (N_LEVELS,)),  # records, until what is open is over; 0: nothing is open
        ("open", np.bool_),  # at any level
        ("over_since", np.float64, (N_LEVELS,)),  # what was open last
        ("recurs", np.bool_, (N_LEVELS,)),  # what began last: it came within the cooldown
        ("threshold", np.float64),  # nats
    ]
)
SteeringRows = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Steering:
    """From how much surprise on an entity's records are suspicious."""

    base: float
    """The detector's threshold, nats; thresholds of entities are from ..."""
    lowest: float
    """... up to ..."""
    highest: float
    """... nats."""
    levels: FloatArray
    """At which episodes are counted, nats, from the lowest threshold to the highest, shape (N_LEVELS,)."""
    counts: FloatArray
    """Of an entity's held-out traffic, shape (N_LEVELS,), and ..."""
    watched_s: float
    """... how long that was."""
    rate: float
    """Episodes that are borne, per entity and second: as many as the detector's threshold aims at."""
    rules: AlertRules
    """When an episode is over, and when it is back."""

    @classmethod
    def of(cls, held_out: HeldOut, threshold: Threshold, rules: AlertRules, smallest_p_value: float) -> Self:
        """Count held-out traffic, at the levels from two nats below the detector's threshold on.

        Args:
            held_out: Normal traffic.
            threshold: The detector's.
            rules: When an episode is over, and when it is back.
            smallest_p_value: That a single record can have.
        """
        base = -float(np.log(threshold.p_value))
        lowest = _lowest(base, _LOWEST)
        levels, counts = _levels(base, lowest, -float(np.log(smallest_p_value))), np.zeros(N_LEVELS)
        starts, lengths = starts_of(held_out.lengths).tolist(), held_out.lengths.tolist()
        for start, n in zip(starts, lengths, strict=True):
            part = slice(start, start + n)
            nats = -np.log(held_out.p_value[part])
            whole = np.array([n])
            counts += _episodes(_never_seen(1), nats, held_out.time[part], whole, levels, rules)[1].sum(
                axis=0
            )
        share, watched_s = _HELD_OUT_WEIGHT / len(lengths), float(held_out.span_s.mean())
        counts, watched_s, rate = share * counts, _HELD_OUT_WEIGHT * watched_s, threshold.aimed_rate
        return cls(base, lowest, np.inf, levels, counts, watched_s, rate, rules)

    @classmethod
    def while_learning(cls, threshold: Threshold, rules: AlertRules) -> Self:
        """Count nothing yet; thresholds sink by a nat, and none rises.

        Args:
            threshold: The detector's.
            rules: When an episode is over, and when it is back.
        """
        base = -float(np.log(threshold.p_value))
        lowest = _lowest(base, _LOWEST_WHILE_LEARNING)
        levels = _levels(base, lowest, reach=base)
        return cls(base, lowest, base, levels, np.zeros(N_LEVELS), 0.0, threshold.aimed_rate, rules)

    def initial_state(self, n: int) -> SteeringRows:
        """Return the state of entities never seen, shape (n,)."""
        state = _never_seen(n)
        state["threshold"] = self.base
        return state

    def steered(self, state: SteeringRows) -> BoolArray:
        """Return which entities have a threshold of their own, shape (E,)."""
        return np.asarray(state["threshold"] != self.base)

    def steer(
        self, state: SteeringRows, p_value: FloatArray, time: FloatArray, lengths: IntArray
    ) -> tuple[SteeringRows, FloatArray]:
        """Return the state after, shape (E,), and the threshold of each row, nats, shape (N,).

        Args:
            state: Before, shape (E,).
            p_value: Of scored rows, shape (N,), entity after entity, each in time order.
            time: Seconds since 1970 UTC, shape (N,).
            lengths: Rows of each entity, shape (E,), each >= 1.
        """
        starts, nats = starts_of(lengths), -np.log(p_value)
        threshold = state["threshold"].repeat(lengths)
        # take() moves structures whole; copy() would do it field by field, many times slower.
        after = state.take(np.arange(len(state)))
        after["time"] = np.where(np.isnan(state["time"]), time[starts], state["time"])
        # Nearly all entities are quiet, and have nothing to count.
        loud = np.maximum.reduceat(nats, starts) >= self.levels[0]
        followed = np.flatnonzero(loud | state["open"])
        if followed.size == 0:
            return after, threshold
        rows = np.flatnonzero(np.isin(np.arange(len(starts)), followed).repeat(lengths))
        own = after[followed]
        found, ended = _episodes(own, nats[rows], time[rows], lengths[followed], self.levels, self.rules)
        after[followed] = own
        entity = np.arange(len(lengths)).repeat(lengths)
        for row, levels in zip(rows[found].tolist(), ended, strict=True):
            e = int(entity[row])
            steered = self._counted(after[e : e + 1], levels, float(time[row]))
            after["threshold"][e] = steered
            # It is known after this record, so it holds from the next one on.
            threshold[row + 1 : starts[e] + lengths[e]] = steered
        return after, threshold

    def _counted(self, state: SteeringRows, ended: BoolArray, time: float) -> float:
        """Count episodes that are over, shape (N_LEVELS,), in place; return the threshold from now on."""
        passed = time - float(state["time"][0])
        kept = 0.5 ** (passed / _HALF_LIFE_S)
        state["counts"] = kept * state["counts"] + ended
        state["watched_s"] = kept * state["watched_s"] + passed
        state["time"] = time
        aimed = self.rate * (self.watched_s + float(state["watched_s"][0]))
        # Fewer than are borne in any case say nothing of a rate, so they do not lower a threshold either.
        lowest = self.lowest if aimed >= _BORNE else self.base
        borne = self.counts + state["counts"][0] <= max(_BORNE, aimed)
        # What never ends is never counted, so levels that are out of reach say nothing.
        borne &= self.levels >= self.levels[self.levels <= lowest].max(initial=self.levels[0])
        if borne.any():
            own = max(lowest, float(self.levels[int(np.argmax(borne))]))
        else:
            # What is as loud as can be fires in any case, and must not hide all else.
            own = min(self.base + _FARTHEST_IN_VAIN, float(self.levels[-1]))
        return min(own, self.highest)


def _lowest(base: float, below: float) -> float:
    """Return the lowest threshold, nats, so far below the detector's, ``base``: never what is calm."""
    return max(base - below, min(base, _CALM))


def _levels(base: float, lowest: float, reach: float) -> FloatArray:
    """Return the levels that a threshold may have, nats, shape (N_LEVELS,).

    Args:
        base: The detector's threshold, nats.
        lowest: The lowest of an entity, nats.
        reach: Of the surprise of a single record, nats.
    """
    highest = max(_OF_REACH * reach, base)
    first = max(np.floor(np.log(lowest / _SOFTEST) / np.log(_STEP)), 0.0)
    return np.asarray(np.clip(_SOFTEST * np.power(_STEP, first + np.arange(N_LEVELS)), lowest, highest))


def _never_seen(n: int) -> SteeringRows:
    state = np.zeros(n, dtype=STEERING_STATE)
    state["time"], state["over_since"] = np.nan, -np.inf
    return state


def _episodes(
    state: SteeringRows,
    nats: FloatArray,
    time: FloatArray,
    lengths: IntArray,
    levels: FloatArray,
    rules: AlertRules,
) -> tuple[IntArray, BoolArray]:
    """Return at which R rows an episode is over that is to be counted, and at which levels.

    Args:
        state: Of the entities, shape (E,); moved on, in place.
        nats: Of their rows, shape (n,), entity after entity, each in time order.
        time: Seconds, shape (n,).
        lengths: Rows of each entity, shape (E,), each >= 1.
        levels: Nats, rising, shape (N_LEVELS,).
        rules: When an episode is over, and when it is back.

    Returns:
        Rows, shape (R,), and levels, shape (R, N_LEVELS).
    """
    starts, row = starts_of(lengths), np.arange(len(nats))
    entity = np.arange(len(lengths)).repeat(lengths)
    calm_records, below = rules.resolve_records, rules.resolve_below * levels
    # After a calm run nothing is open, so the calm rows that follow it change nothing.
    last_loud = running_last(nats >= below[0], starts, lengths)
    rows = np.flatnonzero(row - np.where(last_loud >= 0, last_loud, starts[entity] - 1) <= calm_records)
    nats, time, entity = nats[rows, None], time[rows, None], entity[rows]
    lengths = np.bincount(entity, minlength=len(lengths))
    starts = starts_of(lengths)

    def last(marked: BoolArray) -> IntArray:
        return running_last_of_columns(marked, starts, lengths)

    to_come = state["calm_to_come"]
    last_loud = last(nats >= below)
    before = starts[entity, None] + to_come[entity] - calm_records - 1
    calm = np.arange(len(rows))[:, None] - np.where(last_loud >= 0, last_loud, before)
    last_begun, last_over = last(nats >= levels), last(calm >= calm_records)
    untouched = (last_begun < 0) & (last_over < 0)
    is_open = np.where(untouched, to_come[entity] > 0, last_begun > last_over)
    was_open = lagged(is_open, to_come > 0, starts)
    begins, ends = is_open & ~was_open, was_open & ~is_open

    last_end = last(ends)
    over_since = np.where(last_end >= 0, time[last_end, 0], state["over_since"][entity])
    returns = begins & (time - lagged(over_since, state["over_since"], starts) < rules.cooldown_s)
    last_beginning = last(begins)
    recurs = np.where(last_beginning >= 0, last(returns) == last_beginning, state["recurs"][entity])

    newest = starts + lengths - 1
    state["calm_to_come"] = np.where(is_open[newest], calm_records - calm[newest], 0)
    state["open"] = is_open[newest].any(axis=1)
    state["over_since"], state["recurs"] = over_since[newest], recurs[newest]
    counted = ends & ~recurs
    some = counted.any(axis=1)
    return rows[some], counted[some]
