"""Small departures to one side, added up: a causal average of deviations, with their sign.

What a predictor leaves of normal traffic scatters about 0, so its average stays near 0, too. A drift, or a
run of records that are each a little too high, moves the average by far more than any of them is surprising.
This is the moving average of control charts; its surprise is that of independent Gaussian deviations, and is
calibrated like any other, so nothing rests on that.

References:
    Roberts (1959), Control chart tests based on geometric moving averages.
    Lowry, Woodall, Champ and Rigdon (1992), A multivariate exponentially weighted moving average control
    chart.
"""

from typing import NamedTuple

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.moving_mean import moving_mean

FARTHEST = 8.0
"""Standard deviations; what is farther out drifts no more than that: it is a leap."""


class Drift(NamedTuple):
    """Averages of deviations."""

    after: FloatArray
    """After each run, shape (E, D)."""
    average: FloatArray
    """At each row, in standard deviations of an average of independent ones, shape (N, D)."""
    surprise: FloatArray
    """Of these, nats, shape (N,)."""


def drift(
    before: FloatArray, deviation: FloatArray, weight: float, counted: BoolArray, lengths: IntArray
) -> Drift:
    """Average deviations.

    Args:
        before: Averages before each run, shape (E, D).
        deviation: From what was expected, in standard deviations, shape (N, D), entity after entity, each in
            time order; NaN is missing, and as expected: an average is one of records, and forgets with them.
        weight: Of the newest record, in (0, 1).
        counted: Shape (N,), rows that count; at others the averages stay as they are.
        lengths: Records of each entity, shape (E,), each >= 1.
    """
    value = np.where(counted[:, None], np.clip(deviation, -FARTHEST, FARTHEST), 0.0)
    value[np.isnan(value)] = 0.0
    step = np.broadcast_to(np.where(counted, weight, 0.0)[:, None], value.shape)
    mean, after = moving_mean(before, value, step, lengths)
    average = mean + (value - mean) * step
    variance = weight / (2.0 - weight)
    # Feature by feature, so that the sum is the same for any number of rows.
    surprise = np.zeros(len(average))
    for column in average.T:
        surprise += column**2 / (2.0 * variance)
    return Drift(after, average / variance**0.5, surprise)
