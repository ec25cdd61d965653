"""Counters and logarithms of training records: which columns, and where a logarithm starts."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from detector.batch import FloatArray
from detector.models.feature_transforms import FeatureScale, FeatureTransforms, FeatureType
from detector.training.training_rows import TrainingRows

# Quartile distances below the lower quartile; of log-normal values about one in a million lies lower.
_DEPTH = 3

_log = logging.getLogger(__name__)


def with_rates(rows: TrainingRows, types: Mapping[str, FeatureType]) -> TrainingRows:
    """Return whole runs of records, a run for every entity, with the rates of counters in their place."""
    d = rows.values.shape[1]
    counters = np.flatnonzero([types.get(name) == "counter" for name in rows.feature_names])
    transforms = replace(FeatureTransforms.none(d), counters=counters)
    before = transforms.initial_state(len(rows.lengths))
    values, _ = transforms.rates(before, rows.values, rows.time, rows.lengths)
    return replace(rows, values=values)


def without_negative(
    values: FloatArray, names: Sequence[str], scales: Mapping[str, FeatureScale]
) -> FloatArray:
    """Return the records with negative values of logarithmic features taken as missing; the log says so.

    Args:
        values: Shape (N, D).
        names: Of the D features.
        scales: By name; linear where nothing is said.

    Raises:
        ValueError: More than half of a feature's values are negative.
    """
    for j, name in enumerate(names):
        negative = values[:, j] < 0
        if scales.get(name) != "log" or not negative.any():
            continue
        text = (
            f"feature {name!r} has scale log, but {int(negative.sum())} of its values are negative "
            f"(such as {values[negative, j][0]:g})"
        )
        if 2 * negative.sum() > np.count_nonzero(~np.isnan(values[:, j])):
            raise ValueError(f"{text}; leave the scale linear")
        _log.warning("%s; they count as missing in training", text)
        values = values.copy()
        values[negative, j] = np.nan
    return values


def fit_transforms(
    values: FloatArray,
    names: Sequence[str],
    types: Mapping[str, FeatureType],
    scales: Mapping[str, FeatureScale],
) -> FeatureTransforms:
    """Return what is done to each feature before it is scaled.

    A logarithm starts where ordinary values do not get: three times as far below the lower quartile of the
    positive values, in log units, as that is below the upper one.

    Args:
        values: Records that shape the model, counters as rates, shape (N, D); NaN is missing.
        names: Of the D features.
        types: By name; gauges where nothing is said.
        scales: By name; linear where nothing is said.

    Raises:
        ValueError: A logarithmic feature has no positive value.
    """
    logs = np.flatnonzero([scales.get(name) == "log" for name in names])
    threshold = np.empty(logs.size)
    for i, j in enumerate(logs.tolist()):
        positive = values[values[:, j] > 0, j]
        if not positive.size:
            raise ValueError(
                f"feature {names[j]!r} has scale log, but none of the values to fit is above 0; leave the "
                "scale linear"
            )
        low, high = np.log(np.quantile(positive, [0.25, 0.75], method="nearest"))
        # A start of 0 would leave 0 without a logarithm, so the smallest normal float is as low as it gets.
        threshold[i] = np.exp(max(low - _DEPTH * (high - low), np.log(np.finfo(np.float64).tiny)))
    counters = np.flatnonzero([types.get(name) == "counter" for name in names])
    return FeatureTransforms(len(names), counters, logs, threshold)
