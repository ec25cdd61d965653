"""Whether p-values still mean what they say: how often small ones come, against how often they should.

Of ordinary records one in ten has a p-value of at most 0.1, one in a hundred one of at most 0.01. Where that
no longer holds, traffic has changed since training, and the budget of false alarms is no longer kept.
"""

import numpy as np

from detector.batch import BoolArray, FloatArray

LEVELS = (0.1, 0.03, 0.01, 0.003, 0.001)
HALF_LIFE_S = 3 * 86400.0
"""Event time after which a record counts for half."""
# Records near the threshold are in alerts, which are left out, so levels stay well above it.
_LEAST_TIMES_THRESHOLD = 10.0
# Ordinary records are suspicious together, so a few more than expected say nothing.
_FEWEST_EXPECTED = 200.0


class CalibrationHealth:
    """p-values of one detector, counted at a few levels, older ones for less."""

    def __init__(self, threshold: float) -> None:
        """Args:
        threshold: p-value at most which a record is suspicious.
        """
        levels = [level for level in LEVELS if level >= _LEAST_TIMES_THRESHOLD * threshold]
        self._levels: FloatArray = np.array(levels or LEVELS[:1])
        self._at_most: FloatArray = np.zeros(len(self._levels))
        self._records = 0.0
        self._time_s = -np.inf

    def add(self, p_value: FloatArray, ordinary: BoolArray, time_s: float) -> None:
        """Count a batch.

        Args:
            p_value: Shape (N,); NaN is not scored.
            ordinary: Shape (N,), records that are in no alert, and of which people said nothing.
            time_s: The newest event time of the batch.
        """
        if time_s > self._time_s:
            kept = 0.5 ** ((time_s - self._time_s) / HALF_LIFE_S) if np.isfinite(self._time_s) else 0.0
            self._at_most *= kept
            self._records *= kept
            self._time_s = time_s
        counted = p_value[ordinary]
        self._records += counted.size - int(np.count_nonzero(np.isnan(counted)))
        # Of each level but the first, only what the one before left.
        for i, level in enumerate(self._levels.tolist()):
            counted = counted[counted <= level]
            self._at_most[i] += counted.size

    @property
    def ratio(self) -> float:
        """How many times as often as they should small p-values come, at the level that is furthest off.

        1 is as promised. Above, records are more often improbable than they should be; below, less often. NaN
        before there are records enough to tell.
        """
        expected = self._records * self._levels
        known = expected >= _FEWEST_EXPECTED
        if not known.any():
            return float("nan")
        ratio = np.maximum(self._at_most[known], 0.5) / expected[known]
        return float(ratio[np.argmax(np.abs(np.log(ratio)))])
