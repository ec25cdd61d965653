"""A tail that is learnt on: how surprising an entity's traffic gets, counted while it is scored.

Few held-out rows say little of how rare a large surprise is. So where a version was calibrated on few, every
entity goes on counting for itself, in a histogram of fixed size. Suspicious records are not counted, but the
peak of an incident is, once, when it is over: what has happened before is less rare than what has not.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.blocks import blocks_of, teaching_weight
from detector.models.contract import Arrays
from detector.models.sequences import lagged, starts_of

N_BINS = 64
_WIDTH = 0.125
BLOCK = 64
"""Records of an entity after which what was counted shows."""
_SUSPICIOUS = 0.0015
"""A record with a smaller p-value is not counted, ..."""
_RELEASE_RECORDS = 36
_RELEASE_S = 6 * 3600.0
"""... unless the incident has lasted for so many records and seconds: then this is the new normal."""
_CALM_RECORDS = 10
"""An incident is over after so many records without a suspicious one."""
_PEAK_WEIGHT = 3.0
# Beyond, an exponential in the logarithmic scale of the histogram goes on, a Pareto in surprise.
_TAIL_SHARE = 0.01
_FEWEST_IN_TAIL = 10.0
_EXCESS, _EXCESS_WEIGHT = 0.3, 30.0
# While little is known: so many records of a distribution with heavy tails.
_PSEUDO_RECORDS = 50.0
# Histograms of so many entities stay in the processor's cache.
_RUNS_AT_ONCE = 256

_SEEN, _TIME, _PEAK, _SINCE, _OPENED, _LENGTH = range(2 * N_BINS, 2 * N_BINS + 6)


@dataclass(frozen=True, slots=True)
class Sketch:
    """How surprise is distributed at first: bins of its logarithm above the least of normal traffic."""

    low: float
    """The least surprise of normal traffic, on the scale that all entities share."""
    counts: FloatArray
    """Of held-out and of pseudo-records, shape (N_BINS,)."""

    @classmethod
    def fit(cls, common: FloatArray) -> Self:
        """Count held-out rows.

        Args:
            common: Surprise on the scale that all entities share, shape (M,).
        """
        low = float(min(np.quantile(common, 0.01), 0.0))
        edges = _WIDTH * np.arange(N_BINS + 1)
        survival = (1.0 + np.expm1(edges) / 2.5) ** -2.5
        survival[-1] = 0.0
        pseudo = _PSEUDO_RECORDS * -np.diff(survival)
        return cls(low, pseudo + np.bincount(_bin(_place(common, low)), minlength=N_BINS))

    def initial_state(self, n: int) -> FloatArray:
        """Return state rows of entities never seen, shape (n, state_size)."""
        rows = np.zeros((n, self.state_size))
        rows[:, _TIME], rows[:, _SINCE] = np.nan, np.inf
        return rows

    @property
    def state_size(self) -> int:
        return _LENGTH + 1

    def scan(
        self, rows: FloatArray, common: FloatArray, time: FloatArray, scored: BoolArray, lengths: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the state after, shape (E, state_size), and p-values in (0, 1], shape (N,).

        Args:
            rows: State before, one row per entity.
            common: Surprise on the scale that all entities share, shape (N,), entity after entity, each in
                time order.
            time: Seconds since 1970 UTC, shape (N,).
            scored: Shape (N,); the others count for nothing, and their p-value means nothing.
            lengths: Records of each entity, shape (E,), each >= 1.
        """
        rows = rows.copy()
        starts = starts_of(lengths)
        place = _place(common, self.low)
        p_value = np.empty(len(place))
        weight = np.where(scored, teaching_weight(time - lagged(time, rows[:, _TIME], starts)), 0.0)
        for block in blocks_of(rows[:, _SEEN].astype(np.int64), lengths, BLOCK):
            everybody = len(block.runs) == len(rows)
            own = rows if everybody else rows[block.runs]
            run = np.repeat(np.arange(len(block.runs)), block.lengths)
            here = place[block.rows]
            found = self._p_value(own, here, run)
            p_value[block.rows] = found
            suspicious = scored[block.rows] & (found <= _SUSPICIOUS)
            counted = np.where(suspicious, 0.0, weight[block.rows])
            disturbed = np.union1d(run[suspicious], np.flatnonzero(own[:, _SINCE] <= _CALM_RECORDS))
            for r in disturbed.tolist():
                part = slice(int(block.lengths[:r].sum()), int(block.lengths[: r + 1].sum()))
                at = block.rows[part]
                counted[part] += _incident(own[r], here[part], suspicious[part], time[at], weight[at])
            calm = np.ones(len(own), dtype=bool)
            calm[disturbed] = False
            own[calm, _SINCE] += block.lengths[calm]
            np.add.at(own, (run, N_BINS + _bin(here)), counted)
            own[:, _SEEN] += block.lengths
            done = block.completes
            if done.any():
                own[done, :N_BINS] += own[done, N_BINS : 2 * N_BINS]
                own[done, N_BINS : 2 * N_BINS] = 0.0
                own[done, _SEEN] = 0.0
            if not everybody:
                rows[block.runs] = own
        rows[:, _TIME] = time[starts + lengths - 1]
        return rows, p_value

    def _p_value(self, rows: FloatArray, place: FloatArray, run: IntArray) -> FloatArray:
        """Return how often records are at least so surprising, shape (n,), ``run`` (n,) rising."""
        found = np.empty(len(place))
        ends = np.searchsorted(run, np.arange(_RUNS_AT_ONCE, len(rows) + _RUNS_AT_ONCE, _RUNS_AT_ONCE))
        start = 0
        for i, end in enumerate(ends.tolist()):
            first = i * _RUNS_AT_ONCE
            counts = self.counts + rows[first : first + _RUNS_AT_ONCE, :N_BINS]
            found[start:end] = _p_value(counts, place[start:end], run[start:end] - first)
            start = end
        return found

    def arrays(self) -> Arrays:
        """Return everything, ready for safetensors."""
        return {"low": np.array([self.low]), "counts": self.counts}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Rebuild from ``arrays()``.

        Raises:
            KeyError: An array is absent.
            ValueError: They do not describe a sketch.
        """
        low, counts = arrays["low"], arrays["counts"]
        if low.shape != (1,) or counts.shape != (N_BINS,) or not (counts >= 0).all() or not counts.sum() > 0:
            raise ValueError(f"counts {counts.shape} must be {N_BINS} numbers >= 0, not all of them 0")
        return cls(float(low[0]), counts)


def _place(common: FloatArray, low: float) -> FloatArray:
    return np.log1p(np.maximum(common - low, 0.0))


def _bin(place: FloatArray) -> IntArray:
    return np.minimum(place / _WIDTH, N_BINS - 1).astype(np.int64)


def _p_value(counts: FloatArray, place: FloatArray, run: IntArray) -> FloatArray:
    """Return how often records are at least so surprising, shape (n,); counts (R, N_BINS), of each run."""
    above = np.zeros((len(counts), N_BINS + 1))
    above[:, :-1] = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
    total = above[:, 0]
    needed = np.maximum(_TAIL_SHARE * total, _FEWEST_IN_TAIL)
    onset_bin = np.maximum((above[:, :-1] >= needed[:, None]).sum(axis=1) - 1, 0)
    onset, each = onset_bin * _WIDTH, np.arange(len(counts))
    # Mean excess over the onset, by the middles of the bins, with some records of the usual one.
    beyond = np.maximum((np.arange(N_BINS) + 0.5) * _WIDTH - onset[:, None], 0.0)
    excess = (counts * beyond * (np.arange(N_BINS) >= onset_bin[:, None])).sum(axis=1)
    in_tail = above[each, onset_bin]
    mean = (excess + _EXCESS * _EXCESS_WEIGHT) / (in_tail + _EXCESS_WEIGHT)

    b = _bin(place)
    within = np.minimum(place / _WIDTH - b, 1.0)
    upper, lower = above[run, b], above[run, b + 1]
    body = (upper + (lower - upper) * within) / total[run]
    far = (in_tail / total)[run] * np.exp(-(place - onset[run]) / mean[run])
    p_value = np.where(place >= onset[run], far, body)
    return np.clip(p_value, np.finfo(np.float64).tiny, 1.0)


def _incident(
    state: FloatArray, place: FloatArray, suspicious: BoolArray, time: FloatArray, weight: FloatArray
) -> FloatArray:
    """Follow one entity through an incident, in place; return what counts besides calm records, shape (n,).

    A peak goes into the histogram itself: its bin is not that of the row that ends the incident.
    """
    counted = np.zeros(len(place))
    for i in range(len(place)):
        if suspicious[i]:
            if state[_SINCE] > _CALM_RECORDS:
                state[_PEAK], state[_OPENED], state[_LENGTH] = 0.0, time[i], 0.0
            state[_PEAK], state[_SINCE] = max(state[_PEAK], place[i]), 0.0
            state[_LENGTH] += 1
            if state[_LENGTH] > _RELEASE_RECORDS and time[i] - state[_OPENED] > _RELEASE_S:
                counted[i] = weight[i]
        else:
            state[_SINCE] += 1
            state[_LENGTH] += 1
            if state[_SINCE] == _CALM_RECORDS:
                state[N_BINS + int(_bin(np.array([state[_PEAK]]))[0])] += _PEAK_WEIGHT
                state[_SINCE] = _CALM_RECORDS + 1
    return counted
