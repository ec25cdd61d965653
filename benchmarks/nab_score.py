"""The score of the Numenta Anomaly Benchmark, by its published rules.

Within a window around an anomaly the first detection counts, the more the earlier; each outside costs, the
more the farther it is behind the window before it; a window without any costs, too. The sum over a corpus is
put on a scale from 0, a detector that never alarms, to 100, one that alarms once at the start of each window.

Lavin and Ahmad (ICMLA 2015), Evaluating real-time anomaly detection algorithms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.event_metrics import MERGED_GAP
from detector.batch import BoolArray, FloatArray, IntArray

_FARTHEST = 3.0
"""Windows' widths behind a window; what is farther away costs in full."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What an application cares for."""

    false_positive: float
    false_negative: float
    true_positive: float = 1.0


PROFILES = {"standard": Profile(0.11, 1.0), "low FP": Profile(0.22, 1.0), "low FN": Profile(0.11, 2.0)}


@dataclass(frozen=True, slots=True)
class Scored:
    """What a detector says of the M records of one file, those of the probationary period left out."""

    anomaly: FloatArray
    """Shape (M,), high is anomalous. A record is a detection at thresholds up to its anomaly ..."""
    above: FloatArray
    """... and above this, shape (M,)."""
    windows: IntArray
    """First and last record of each window, shape (W, 2), rising, from the first of the M records."""


def every_record(anomaly: FloatArray, windows: IntArray) -> Scored:
    """Return the benchmark's own reading: each record that reaches the threshold is a detection."""
    return Scored(anomaly, np.full(len(anomaly), -np.inf), windows)


def beginnings(anomaly: FloatArray, windows: IntArray) -> Scored:
    """Return another reading: only where a run of alarms begins, as ``event_metrics`` has them, is one."""
    bridged = MERGED_GAP + 1
    padded = np.concatenate([np.full(bridged, -np.inf), anomaly])
    before = np.lib.stride_tricks.sliding_window_view(padded, bridged)[: len(anomaly)]
    return Scored(anomaly, before.max(axis=1), windows)


def best_score(files: Sequence[Scored], profile: Profile) -> float:
    """Return the score at the threshold, one for the corpus, that is best for it: an oracle."""
    steps = [_steps(file, profile) for file in files]
    threshold, step = (np.concatenate(part) for part in zip(*steps, strict=True))
    order = np.argsort(-threshold, kind="stable")
    raw = np.cumsum(step[order])
    is_last_of_equals = np.append(threshold[order][1:] != threshold[order][:-1], True)
    n_windows = sum(len(file.windows) for file in files)
    # Against the detector that never alarms, which is the first of all thresholds.
    return _normalised(float(max(raw[is_last_of_equals].max(initial=0.0), 0.0)), n_windows, profile)


def score(detections: Sequence[BoolArray], windows: Sequence[IntArray], profile: Profile) -> float:
    """Return the score of given detections, shape (M,) each, in files with these windows."""
    raw = 0.0
    for marked, own in zip(detections, windows, strict=True):
        worth, window = _worth(len(marked), own, profile)
        raw += float(worth[marked & (window < 0)].sum())
        for i in range(len(own)):
            found = worth[marked & (window == i)]
            raw += float(found.max()) + profile.false_negative if found.size else 0.0
    return _normalised(raw, sum(len(own) for own in windows), profile)


def _normalised(raw: float, n_windows: int, profile: Profile) -> float:
    """Return the share of what a perfect detector gains over one that never alarms, in percent."""
    if n_windows == 0:
        return float("nan")
    return 100.0 * raw / (n_windows * (profile.true_positive + profile.false_negative))


def _steps(file: Scored, profile: Profile) -> tuple[FloatArray, FloatArray]:
    """Return thresholds, and what the score gains or loses when the threshold sinks to each."""
    worth, window = _worth(len(file.anomaly), file.windows, profile)
    possible = file.above < file.anomaly
    outside = possible & (window < 0)
    # A false detection is there from its anomaly down to what it has to be above.
    thresholds = [file.anomaly[outside], file.above[outside]]
    steps = [worth[outside], -worth[outside]]
    for i in range(len(file.windows)):
        inside = possible & (window == i)
        at = np.unique(np.concatenate([file.anomaly[inside], file.above[inside]]))[::-1]
        made = (file.anomaly[inside] >= at[:, None]) & (file.above[inside] < at[:, None])
        best = np.where(made, worth[inside], -profile.false_negative).max(axis=1, initial=-np.inf)
        thresholds.append(at)
        steps.append(np.diff(best, prepend=-profile.false_negative))
    return np.concatenate(thresholds), np.concatenate(steps)


def _worth(n: int, windows: IntArray, profile: Profile) -> tuple[FloatArray, IntArray]:
    """Return what a detection at each of n records is worth, and the window it is in, -1 for none."""
    worth = np.full(n, -profile.false_positive)
    window = np.full(n, -1)
    for i, (first, last) in enumerate(windows):
        width = last - first + 1
        # The next window, if there is one, overwrites what follows itself.
        behind, inside = np.arange(last + 1, n), np.arange(first, last + 1)
        worth[behind] = profile.false_positive * _sigmoid((behind - last) / max(width - 1, 1))
        worth[inside] = profile.true_positive * _sigmoid((inside - last - 1) / width) / _sigmoid(-1.0)
        window[inside] = i
    return worth, window


def _sigmoid(position: FloatArray | float) -> FloatArray:
    """Return 1 well before 0, the end of a window, and -1 well behind it."""
    scaled = 2.0 / (1.0 + np.exp(5.0 * np.asarray(position, dtype=np.float64))) - 1.0
    return np.where(np.asarray(position) > _FARTHEST, -1.0, scaled)
