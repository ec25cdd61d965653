"""Fit the daily and weekly profile: means per half-hour, shrunk where few days speak for them."""

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.local_time import LocalTime
from detector.models.seasonal import BIN_S, BINS_PER_DAY, DAY_S, SeasonalPredictor, season_of
from detector.models.sequences import rows_of_each, runs_of, starts_of

_SHORTEST_DAYS = 2.0
# In days: one day's worth of belief that a half-hour is like the coarser mean.
_SHRINKAGE_DAYS = 1.0
# A single absurd row must not bend the profile.
_LARGEST = 20.0


def fit_seasonal(
    z: FloatArray,
    time: FloatArray,
    lengths: IntArray,
    model: IntArray,
    n_models: int,
    local_time: LocalTime,
) -> SeasonalPredictor:
    """Average every half-hour over its days, entity by entity and pooled.

    Neighbouring records say nearly the same, so days are counted and not records: the records of one
    entity in one half-hour of one day are one observation, their mean. A pooled half-hour of working days
    (weekends) is shrunk towards the same half-hour of all days, which is shrunk towards the mean;
    an entity's half-hour is shrunk towards the entity's mean plus the pooled departure from the pooled mean.

    Args:
        z: Standardised records, entity after entity, each in time order, shape (N, D); NaN is missing.
        time: Seconds since 1970 UTC, shape (N,).
        lengths: Records of each entity, shape (E,).
        model: Which model each entity shapes, shape (E,), in [0, n_models).
        n_models: Entities with a profile of their own, plus one.
        local_time: Whose days and half-hours.

    Raises:
        ValueError: The records cover less than two days.
    """
    days = float(time.max() - time.min()) / DAY_S
    if days < _SHORTEST_DAYS:
        raise ValueError(
            f"predictor seasonal learns from at least {_SHORTEST_DAYS:g} days, and the records to fit on, "
            f"the oldest of each entity, cover {days:.2g}; train on more, or choose another predictor"
        )
    clock = local_time.of(time)
    half_hour = np.floor(clock / BIN_S).astype(np.int64)
    entity = np.repeat(np.arange(len(lengths)), lengths)
    span = int(half_hour.max() - half_hour.min()) + 1
    visits = starts_of(runs_of(entity * span + half_hour - half_hour.min()))
    present = ~np.isnan(z)
    filled = np.where(present, np.clip(z, -_LARGEST, _LARGEST), 0.0)
    count = np.add.reduceat(present.astype(np.float64), visits)
    weight = (count > 0).astype(np.float64)
    value = np.add.reduceat(filled, visits) / np.maximum(count, 1.0)
    season = season_of(clock[visits])
    own_visits = rows_of_each(model[entity[visits]], n_models)

    centre = _shrunk(value, weight, np.zeros(len(season), dtype=np.int64), np.zeros((1, z.shape[1])))
    daily = _shrunk(value, weight, season % BINS_PER_DAY, np.repeat(centre, BINS_PER_DAY, axis=0))
    pooled = _shrunk(value, weight, season, np.tile(daily, (2, 1)))
    profile = np.repeat(pooled[None], n_models, axis=0)
    for m, own in enumerate(own_visits[:-1]):
        if own.size:
            mean = _shrunk(value[own], weight[own], np.zeros(own.size, dtype=np.int64), centre)
            profile[m] = _shrunk(value[own], weight[own], season[own], mean + pooled - centre)
    return SeasonalPredictor(profile, local_time)


def _shrunk(value: FloatArray, weight: FloatArray, group: IntArray, towards: FloatArray) -> FloatArray:
    """Return the mean of each group, shape (G, D), as if ``towards`` had been observed a day long."""
    total, count = np.zeros_like(towards), np.zeros_like(towards)
    np.add.at(total, group, value * weight)
    np.add.at(count, group, weight)
    shrunk: FloatArray = (total + _SHRINKAGE_DAYS * towards) / (count + _SHRINKAGE_DAYS)
    return shrunk
