"""Keep the budget where traffic is louder or calmer than held-out traffic was: thresholds of entities' own.

Whatever an entity's threshold, episodes are counted at many levels at once: whenever surprise has been loud
and is calm again, its peak counts for every level below. So what is counted does not depend on what fires,
and nothing can run away. The threshold is the lowest level at which no more is counted than the detector's
threshold aims at, held-out traffic included. A few incidents are borne in any case, or they would blind it;
and no threshold sinks by more than a nat, since calm traffic owes nobody an alert.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from detector.alerting.budget import HeldOut, Threshold
from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.sequences import lagged, running_last, running_maximum, starts_of

N_LEVELS = 44
LEVELS: FloatArray = 2.0 * np.power(1.12, np.arange(N_LEVELS, dtype=np.float64))
"""Nats, minus the logarithm of p-values."""
_CALM, _CALM_RECORDS = 2.1, 5
"""Nats: what was loud is over after so many records below."""
_HELD_OUT_WEIGHT = 0.3
_BORNE = 3.0
_HALF_LIFE_S = 30 * 86400.0
_FARTHEST, _LOWEST = 9.0, 1.0
"""Nats above the detector's threshold, and below."""

STEERING_STATE = np.dtype(
    [
        ("counts", np.float64, (N_LEVELS,)),
        ("watched_s", np.float64),
        ("time", np.float64),  # up to which the two above are
        ("open", np.bool_),
        ("calm_records", np.int64),
        ("peak", np.float64),
        ("threshold", np.float64),  # nats
    ]
)
SteeringRows = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Steering:
    """From how much surprise on an entity's records are suspicious."""

    base: float
    """The detector's threshold, nats."""
    counts: FloatArray
    """Of an entity's held-out traffic, shape (N_LEVELS,), and ..."""
    watched_s: float
    """... how long that was."""
    rate: float
    """Episodes that are borne, per entity and second: as many as the detector's threshold aims at."""

    @classmethod
    def of(cls, held_out: HeldOut, threshold: Threshold) -> Self:
        """Count held-out traffic.

        Args:
            held_out: Normal traffic.
            threshold: The detector's.
        """
        nats, lengths, base = -np.log(held_out.p_value), held_out.lengths, -float(np.log(threshold.p_value))
        nobody = np.zeros(len(lengths), dtype=STEERING_STATE)
        ended, peak, _ = _stretches(nobody, nats, lengths, _lowest(base))
        counts = (peak[ended][:, None] >= LEVELS).sum(axis=0) / len(lengths)
        weight, watched_s = _HELD_OUT_WEIGHT, float(held_out.span_s.mean())
        return cls(base, weight * counts, weight * watched_s, threshold.aimed_rate)

    def initial_state(self, n: int) -> SteeringRows:
        """Return the state of entities never seen, shape (n,)."""
        state = np.zeros(n, dtype=STEERING_STATE)
        state["time"], state["threshold"] = np.nan, self.base
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
        starts, nats, opens = starts_of(lengths), -np.log(p_value), _lowest(self.base)
        threshold = state["threshold"].repeat(lengths)
        after = state.copy()
        after["time"] = np.where(np.isnan(state["time"]), time[starts], state["time"])
        # Nearly all entities are quiet, and have nothing to count.
        loud = np.maximum.reduceat(nats, starts) >= opens
        for e in np.flatnonzero(loud | state["open"]).tolist():
            part = slice(int(starts[e]), int(starts[e] + lengths[e]))
            ended, peak, moved = _stretches(after[e : e + 1], nats[part], lengths[e : e + 1], opens)
            after[e] = moved[0]
            for row in np.flatnonzero(ended).tolist():
                own = self._counted(after[e : e + 1], float(peak[row]), float(time[part][row]))
                after["threshold"][e] = own
                # It is known after this record, so it holds from the next one on.
                threshold[part][row + 1 :] = own
        return after, threshold

    def _counted(self, state: SteeringRows, peak: float, time: float) -> float:
        """Count a stretch, in place, and return the threshold from now on."""
        passed = time - float(state["time"][0])
        kept = 0.5 ** (passed / _HALF_LIFE_S)
        state["counts"] = kept * state["counts"] + (peak >= LEVELS)
        state["watched_s"] = kept * state["watched_s"] + passed
        state["time"] = time
        counts = self.counts + state["counts"][0]
        aimed = self.rate * (self.watched_s + float(state["watched_s"][0]))
        # Fewer than are borne in any case say nothing of a rate, so they do not lower a threshold either.
        lowest = _lowest(self.base) if aimed >= _BORNE else self.base
        return float(np.clip(_level(counts, max(_BORNE, aimed)), lowest, self.base + _FARTHEST))


def _lowest(base: float) -> float:
    """Return the lowest threshold, nats, where the detector's is ``base``: never what is calm."""
    return max(base - _LOWEST, min(base, _CALM))


def _level(counts: FloatArray, bearable: float) -> float:
    """Return the lowest level at which no more is counted than what is bearable, nats."""
    borne = counts <= bearable
    return float(LEVELS[int(np.argmax(borne)) if borne.any() else -1])


def _stretches(
    state: SteeringRows, nats: FloatArray, lengths: IntArray, opens: float
) -> tuple[BoolArray, FloatArray, SteeringRows]:
    """Return at which rows a loud stretch is over, its peak there, and the state after."""
    starts, row = starts_of(lengths), np.arange(len(nats))
    last_loud = running_last(nats >= _CALM, starts, lengths)
    calm = np.where(
        last_loud >= 0,
        row - last_loud,
        row - starts.repeat(lengths) + 1 + state["calm_records"].repeat(lengths),
    )
    resolves = calm >= _CALM_RECORDS
    last_open = running_last(nats >= opens, starts, lengths)
    last_calm = running_last(resolves, starts, lengths)
    untouched = (last_open < 0) & (last_calm < 0)
    is_open = np.where(untouched, state["open"].repeat(lengths), last_open > last_calm)
    was_open = lagged(is_open, state["open"], starts)
    ended = was_open & ~is_open

    # The peak so far of the stretch that each row belongs to: a running maximum that starts anew with each.
    begins = is_open & ~was_open
    begins[starts] = True
    group = np.cumsum(begins)
    value = np.where(is_open | was_open, nats, 0.0)
    value[starts] = np.maximum(value[starts], np.where(was_open[starts], state["peak"], 0.0))
    peak = running_maximum(value, group)
    after = state.copy()
    ends = starts + lengths - 1
    after["open"], after["calm_records"] = is_open[ends], calm[ends]
    after["peak"] = np.where(is_open[ends], peak[ends], 0.0)
    return ended, peak, after
