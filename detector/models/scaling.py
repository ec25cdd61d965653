"""Location and scale of every feature, learnt from training rows, per entity where there are enough."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Arrays
from detector.models.discrete_columns import DiscreteColumns
from detector.models.sequences import rows_of_each

# Farther out everything is equally improbable, and squares stay finite.
_LARGEST = 1e8
_LARGEST_SCALE = 1e306
_ABSURD = 1e4
# Of the size of a value: less than that a sender who computes with 32 bits cannot mean, nor one with 64.
_ROUNDING_OF_32, _ROUNDING_OF_64 = float(np.finfo(np.float32).eps), 1e-11
# A constant that is rounded now to one neighbour and now to another has no more values than this.
_MOST_NEIGHBOURS = 8
NEGLIGIBLE = 1e-4
"""Standardised deviations below it are rounding: of a feature without a scale of its own 1e-6 of its size."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """M models: one per entity of the training data, and last the pooled one for any other entity."""

    location: FloatArray
    """Shape (M, D), units of the data."""
    scale: FloatArray
    """Shape (M, D), units of the data, positive."""
    discrete: DiscreteColumns | None = None
    """Columns that are neither shifted nor scaled (location 0, scale 1); None where all are continuous."""

    @property
    def continuous(self) -> IntArray | None:
        """The columns that predictors work on; None where they are all."""
        return None if self.discrete is None else self.discrete.continuous

    def standardise(self, x: FloatArray, model: IntArray) -> FloatArray:
        """Return (x - location) / scale, shape (N, D), within ±1e8; NaN stays NaN.

        Discrete columns hold what the family is to see: counts as they are, categories as indices.

        Args:
            x: Shape (N, D).
            model: Which model each row belongs to, shape (N,).
        """
        # An overflow to infinity is the clip's business; it is not an error of the caller.
        with np.errstate(over="ignore"):
            z: FloatArray = x - of_rows(self.location, model)
            z /= of_rows(self.scale, model)
        np.clip(z, -_LARGEST, _LARGEST, out=z)
        if self.discrete is not None:
            self.discrete.put(x, z)
        return z

    def arrays(self) -> Arrays:
        """Return everything that scoring needs, ready for safetensors."""
        return {"location": self.location, "scale": self.scale}

    @classmethod
    def from_arrays(cls, arrays: Arrays, discrete: DiscreteColumns | None = None) -> Self:
        """Rebuild from ``arrays()`` and what else is known of the columns.

        Raises:
            ValueError: The arrays do not describe a scaling.
        """
        scaling = cls(arrays["location"], arrays["scale"], discrete)
        if scaling.location.ndim != 2 or scaling.location.shape != scaling.scale.shape:
            raise ValueError(
                f"location {scaling.location.shape} and scale {scaling.scale.shape} must both be (M, D)"
            )
        if not (np.isfinite(scaling.location).all() and np.isfinite(scaling.scale).all()):
            raise ValueError("location or scale holds a value that is not finite")
        if not (scaling.scale > 0).all():
            raise ValueError(f"scale must be positive, the smallest is {scaling.scale.min()}")
        if discrete is not None:
            _check_discrete(scaling, discrete)
        return scaling


def _check_discrete(scaling: Scaling, discrete: DiscreteColumns) -> None:
    if len(discrete.kinds) != scaling.location.shape[1]:
        raise ValueError(f"{len(discrete.kinds)} kinds for {scaling.location.shape[1]} features")
    columns = discrete.columns
    if (scaling.location[:, columns] != 0).any() or (scaling.scale[:, columns] != 1).any():
        raise ValueError("a feature that is not continuous must have location 0 and scale 1")


def of_rows(parameters: FloatArray, model: IntArray) -> FloatArray:
    """Return each row's parameters, shape (N, ...), or (1, ...) where all rows belong to one model.

    Args:
        parameters: Shape (M, ...).
        model: Shape (N,).
    """
    if model.size and (model == model[0]).all():
        return parameters[model[:1]]
    return parameters.take(model, axis=0)


def fit_scaling(
    x: FloatArray, model: IntArray, n_models: int, discrete: DiscreteColumns | None = None
) -> Scaling:
    """Measure mean and standard deviation per entity and over all rows.

    A feature that never varied, or by no more than rounding, has no scale of its own: it gets one hundredth
    of its size, or, if it was always 0, the typical scale of the other features, at most 1, for it may be a
    count beside bytes. So its first change is a surprise, but a finite one. How far rounding goes is seen in
    the values: to 32 bits where all are such floats, or so few that they are neighbours among them; else to
    64.
    A value 10,000 times as far from the median as 99 % of an entity's values are is an error of measurement,
    and shapes nothing.

    Args:
        x: Training rows, shape (N, D); NaN is missing. Every column has at least one value.
        model: Entity of each row, shape (N,), in [0, n_models - 1).
        n_models: Entities plus one for the pooled model.
        discrete: Columns to leave as they are.
    """
    location, scale = np.zeros((n_models, x.shape[1])), np.ones((n_models, x.shape[1]))
    columns: IntArray | slice = slice(None) if discrete is None else discrete.continuous
    location[:, columns], std, varies = _moments(x[:, columns], model, n_models)
    scale[:, columns] = _positive(location[:, columns], std, varies)
    return Scaling(location, scale, discrete)


def taken_for_constant(x: FloatArray) -> BoolArray:
    """Return which columns of training rows, shape (N, D), vary by no more than rounding, shape (D,)."""
    everybody = np.zeros(len(x), dtype=np.int64)
    return np.asarray(~_moments(x, everybody, 2)[2][-1])


def _moments(x: FloatArray, model: IntArray, n_models: int) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return location, standard deviation and whether it is more than rounding, shape (n_models, D) each."""
    x = x.copy()
    own = rows_of_each(model, n_models)
    for own_rows in own:
        if own_rows.size:
            x[own_rows] = np.where(_absurd(x[own_rows]), np.nan, x[own_rows])
    # Squares and sums of the largest floats would overflow; a power of two costs no digit.
    exponent = np.frexp(np.fmax.reduce(np.abs(x), axis=0))[1]
    x = np.ldexp(x, -exponent)
    location = np.empty((n_models, x.shape[1]))
    std = np.empty_like(location)
    varies = np.empty(location.shape, dtype=bool)
    for m in reversed(range(n_models)):
        rows = x[own[m]] if m < n_models - 1 else x
        present = ~np.isnan(rows)
        n = np.maximum(present.sum(axis=0), 1)
        location[m] = np.where(present, rows, 0.0).sum(axis=0) / n
        deviation = np.where(present, rows - location[m], 0.0)
        std[m] = np.sqrt((deviation**2).sum(axis=0) / n)
        size = np.maximum(np.abs(location[m]), 1e-300)
        varies[m] = std[m] > _ROUNDING_OF_32 * size
        for j in np.flatnonzero((std[m] > 0) & ~varies[m]).tolist():
            values = rows[present[:, j], j]
            # A long sum is rounded so often that the mean of a constant is not the constant.
            varies[m, j] = np.std(values - values[0]) > _ROUNDING_OF_64 * size[j] and not _of_32_bits(values)
        # An entity that never sent a feature knows nothing about it; the fleet does.
        absent = ~present.any(axis=0)
        location[m, absent], std[m, absent] = location[-1, absent], std[-1, absent]
        varies[m, absent] = varies[-1, absent]
    return np.ldexp(location, exponent), np.ldexp(std, exponent), varies


def _of_32_bits(x: FloatArray) -> bool:
    """Return whether values that hardly differ, shape (N,), look as if a sender with 32 bits rounded them."""
    if (x == x.astype(np.float32)).all():
        return True
    values = np.unique(x)
    # Such floats are half of it to all of it apart, and may have been converted since.
    apart = np.diff(values) >= 0.25 * _ROUNDING_OF_32 * np.abs(values[1:])
    return bool(values.size <= _MOST_NEIGHBOURS and apart.all())


def _absurd(x: FloatArray) -> BoolArray:
    """Mark values 10,000 times as far from the median as 99 % of them, or as the median is from 0 where
    those 99 % are constant; shape (N, D)."""
    ordered, columns = np.sort(x, axis=0), np.arange(x.shape[1])
    last = np.maximum(np.count_nonzero(~np.isnan(x), axis=0), 1) - 1
    # NaN come last. However few the values, one on either side counts as beyond the body.
    low, high = (
        ordered[at.astype(np.int64), columns] for at in (np.ceil(0.005 * last), np.floor(0.995 * last))
    )
    middle = ordered[last // 2, columns]
    with np.errstate(over="ignore"):
        reach = np.maximum(high - middle, middle - low)
        reach = np.where(reach > 0, reach, np.abs(middle))
        return np.asarray((np.abs(x - middle) > _ABSURD * reach) & (reach > 0))


def _positive(location: FloatArray, std: FloatArray, varies: BoolArray) -> FloatArray:
    typical = np.array([np.median(s[v]) if v.any() else 1.0 for s, v in zip(std, varies, strict=True)])
    fallback = np.where(location != 0, 0.01 * np.abs(location), np.minimum(typical, 1.0)[:, None])
    # An entity's constant feature that varies elsewhere in the fleet borrows the fleet's scale.
    fallback = np.where(varies[-1], std[-1], fallback)
    # A hundredth of a subnormal value may be none, and products with the largest scale must stay finite.
    return np.clip(np.where(varies, std, fallback), np.finfo(np.float64).tiny, _LARGEST_SCALE)
