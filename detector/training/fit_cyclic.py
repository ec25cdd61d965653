"""Find the cycle that records go through, and fit what is usual in each of its phases."""

import math

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.cyclic import CyclicPredictor, between
from detector.models.sequences import rows_of_each, starts_of

_FEWEST_CYCLES = 6
"""That are to be seen."""
_FEWEST_RECORDS, _MOST_PHASES = 6, 128
"""In one cycle."""
_LONGEST_S = 0.9 * 86_400.0
"""What repeats itself day by day, ``seasonal`` and ``regression`` know."""
_LEAST_RISE, _ALIKE = 0.5, 0.9
"""How much the autocorrelation rises from its lowest to a peak; which share of the best rise is as good."""
_MOST_RUNS, _MOST_STEPS = 50, 20_000
"""In which a cycle is looked for: the newest of each run."""
_LARGEST = 5.0
"""A single absurd value must not bend the profile."""
_SHRINKAGE_CYCLES = 1.0
"""One cycle's worth of belief that an entity is like the others, and a phase in its spread."""
_LEAST_SPREAD = 0.1
"""Of a phase, relative to that of all."""
_TRIED = 41
"""Periods, about the one that was found."""
_ROUND = tuple(86_400.0 / n for n in (2, 3, 4, 6, 8, 12, 16, 24, 48, 72, 96, 144, 288, 480, 720, 1440))


def fit_cyclic(
    z: FloatArray, time: FloatArray, lengths: IntArray, model: IntArray, n_models: int
) -> CyclicPredictor:
    """Fit one cycle for all, and a profile for each model, an entity's shrunk towards the pooled one.

    Args:
        z: Standardised records, entity after entity, each in time order, shape (N, D); NaN is missing.
        time: Seconds since 1970 UTC, shape (N,).
        lengths: Records of each entity, shape (E,).
        model: Which model each entity shapes, shape (E,), in [0, n_models).
        n_models: Entities with a profile of their own, plus one.

    Raises:
        ValueError: The records go through no cycle.
    """
    interval_s = _interval_s(time, lengths)
    records = _records_of_a_cycle(z, time, lengths, interval_s)
    bounded = np.clip(z, -_LARGEST, _LARGEST)
    of_row = np.repeat(model, lengths)
    begins_s = float(time.min()) - 0.5 * interval_s
    period_s = _refined(bounded, time - begins_s, records * interval_s, interval_s)
    records = period_s / interval_s
    n_phases = _phases_of(records)

    profile = np.zeros((n_models, n_phases, z.shape[1]))
    shape = CyclicPredictor(profile, np.ones_like(profile), period_s, begins_s, records)
    at = shape.phase_of(time)
    phase = at.astype(np.int64)
    shrinkage = _SHRINKAGE_CYCLES * max(1.0, records / n_phases)
    pooled = _means(bounded, phase, np.zeros((n_phases, z.shape[1])), shrinkage)
    profile[:] = pooled
    for m, own in enumerate(rows_of_each(of_row, n_models)[:-1]):
        if own.size:
            profile[m] = _means(bounded[own], phase[own], pooled, shrinkage)
    squares = (bounded - between(profile, of_row, at)) ** 2
    squares = np.minimum(squares, 25.0 * np.nanmedian(squares, axis=0))
    whole = np.nanmean(squares, axis=0) + 1e-9
    spread = np.sqrt(_means(squares, phase, np.tile(whole, (n_phases, 1)), shrinkage))
    spread = np.maximum(spread, _LEAST_SPREAD * np.sqrt(whole))
    # One on average of logarithms, so that densities over it compare with those of other predictors.
    spread /= np.exp(np.log(spread).mean(axis=0))
    return CyclicPredictor(profile, np.repeat(spread[None], n_models, axis=0), period_s, begins_s, records)


def _interval_s(time: FloatArray, lengths: IntArray) -> float:
    gaps = np.delete(np.diff(time), starts_of(lengths)[1:] - 1)
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if gaps.size else 1.0


def _phases_of(records: float) -> int:
    """Return how many phases a cycle of so many records has: one for each, or for each few."""
    return round(records / math.ceil(records / _MOST_PHASES))


def _records_of_a_cycle(z: FloatArray, time: FloatArray, lengths: IntArray, interval_s: float) -> float:
    """Return the shortest cycle after which records are most like what they were, in records.

    Raises:
        ValueError: There is none.
    """
    starts = starts_of(lengths)
    chosen = np.unique(np.linspace(0, len(lengths) - 1, min(len(lengths), _MOST_RUNS)).astype(np.int64))
    longest = min(int(lengths[chosen].max()), _MOST_STEPS)
    most = min(longest // _FEWEST_CYCLES, int(_LONGEST_S / interval_s))
    if most < _FEWEST_RECORDS:
        raise ValueError(f"{longest} records in a row are too few to find a cycle in")
    together, pairs = np.zeros(longest), np.zeros(longest)
    for run in chosen.tolist():
        end = int(starts[run] + lengths[run])
        rows = slice(max(int(starts[run]), end - longest), end)
        step = np.rint((time[rows] - time[rows.start]) / interval_s)
        near = step < longest
        values = np.zeros((int(step[near].max()) + 1, z.shape[1]))
        values[step[near].astype(np.int64)] = np.nan_to_num(np.clip(z[rows][near], -_LARGEST, _LARGEST))
        power = np.abs(np.fft.rfft(values - values.mean(axis=0), 2 * len(values), axis=0)) ** 2
        together[: len(values)] += np.fft.irfft(power.sum(axis=1))[: len(values)]
        pairs[: len(values)] += np.arange(len(values), 0, -1)
    like = together / np.maximum(pairs, 1.0)
    like /= max(float(like[0]), 1e-12)
    lags = np.arange(_FEWEST_RECORDS, most + 1)
    peaks = lags[(like[lags] >= like[lags - 1]) & (like[lags] > like[lags + 1])]
    rise = like[peaks] - np.minimum.accumulate(like)[peaks]
    if peaks.size == 0 or rise.max() < _LEAST_RISE:
        raise ValueError(
            f"the records repeat themselves within no cycle of {_FEWEST_RECORDS} to {most} intervals of "
            f"{interval_s:g} s; choose another predictor"
        )
    cycle, cycles = float(peaks[np.argmax(rise >= _ALIKE * rise.max())]), 1
    # After ever more cycles, up to half of all, the place of the peak tells ever more exactly.
    while 4 * cycles * cycle < longest:
        cycles *= 2
        around, width = round(cycles * cycle), max(2, round(cycle / 4))
        cycle = float(around - width + np.argmax(like[around - width : around + width + 1])) / cycles
    return cycle


def _refined(values: FloatArray, since_s: FloatArray, period_s: float, interval_s: float) -> float:
    """Return the period near one that explains the most, a round one if it is as good as any."""
    n_phases = _phases_of(period_s / interval_s)
    near = since_s > since_s.max() - _MOST_STEPS * interval_s
    cycles = max(float(np.ptp(since_s[near])) / period_s, 1.0)
    # A period that is wrong by so much has the last records in the next phase.
    just_wrong = period_s / n_phases / cycles
    tried = period_s + just_wrong * np.linspace(-4.0, 4.0, _TRIED)
    explained = [_explained(values[near], since_s[near], p, n_phases) for p in tried.tolist()]
    period_s = float(tried[np.argmax(explained)])
    for known in (*_ROUND, interval_s * round(period_s / interval_s)):
        if abs(known - period_s) < just_wrong:
            return float(known)
    return period_s


def _explained(values: FloatArray, since_s: FloatArray, period_s: float, n_phases: int) -> float:
    phase = (np.mod(since_s / period_s, 1.0) * n_phases).astype(np.int64) % n_phases
    present = ~np.isnan(values)
    filled = np.nan_to_num(values)
    total = 0.0
    for column, here in zip(filled.T, present.T, strict=True):
        count = np.bincount(phase, here, n_phases)
        mean = np.bincount(phase, column, n_phases) / np.maximum(count, 1.0)
        total += float((count * mean**2).sum())
    return total


def _means(values: FloatArray, phase: IntArray, towards: FloatArray, shrinkage: float) -> FloatArray:
    """Return the mean in each phase, shape (B, D), as if ``towards`` had been seen ``shrinkage`` times."""
    present = ~np.isnan(values)
    total, count = shrinkage * towards, np.full(towards.shape, shrinkage)
    np.add.at(total, phase, np.where(present, values, 0.0))
    np.add.at(count, phase, present)
    return np.asarray(total / count)
