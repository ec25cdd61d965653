"""Location and scale of every feature, learnt from training rows, per entity where there are enough."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.contract import Arrays

# Farther out everything is equally improbable, and squares stay finite.
_LARGEST = 1e8


@dataclass(frozen=True, slots=True)
class Scaling:
    """M models: one per entity of the training data, and last the pooled one for any other entity."""

    location: FloatArray
    """Shape (M, D), units of the data."""
    scale: FloatArray
    """Shape (M, D), units of the data, positive."""

    def standardise(self, x: FloatArray, model: IntArray) -> FloatArray:
        """Return (x - location) / scale, shape (N, D), within ±1e8; NaN stays NaN.

        Args:
            x: Shape (N, D).
            model: Which model each row belongs to, shape (N,).
        """
        # An overflow to infinity is the clip's business; it is not an error of the caller.
        with np.errstate(over="ignore"):
            z: FloatArray = x - of_rows(self.location, model)
            z /= of_rows(self.scale, model)
        return np.clip(z, -_LARGEST, _LARGEST, out=z)

    def arrays(self) -> Arrays:
        """Return everything that scoring needs, ready for safetensors."""
        return {"location": self.location, "scale": self.scale}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Rebuild from ``arrays()``.

        Raises:
            ValueError: The arrays do not describe a scaling.
        """
        scaling = cls(arrays["location"], arrays["scale"])
        if scaling.location.ndim != 2 or scaling.location.shape != scaling.scale.shape:
            raise ValueError(
                f"location {scaling.location.shape} and scale {scaling.scale.shape} must both be (M, D)"
            )
        if not (np.isfinite(scaling.location).all() and np.isfinite(scaling.scale).all()):
            raise ValueError("location or scale holds a value that is not finite")
        if not (scaling.scale > 0).all():
            raise ValueError(f"scale must be positive, the smallest is {scaling.scale.min()}")
        return scaling


def of_rows(parameters: FloatArray, model: IntArray) -> FloatArray:
    """Return each row's parameters, shape (N, ...), or (1, ...) where all rows belong to one model.

    Args:
        parameters: Shape (M, ...).
        model: Shape (N,).
    """
    if model.size and (model == model[0]).all():
        return parameters[model[:1]]
    return parameters[model]


def fit_scaling(x: FloatArray, model: IntArray, n_models: int) -> Scaling:
    """Measure mean and standard deviation per entity and over all rows.

    A feature that never varied has no scale of its own: it gets one hundredth of its size, or, if it was
    always 0, the typical scale of the other features. So its first change is a surprise, but a finite one.

    Args:
        x: Training rows, shape (N, D); NaN is missing. Every column has at least one value.
        model: Entity of each row, shape (N,), in [0, n_models - 1).
        n_models: Entities plus one for the pooled model.
    """
    groups = [x[model == m] for m in range(n_models - 1)] + [x]
    location = np.empty((n_models, x.shape[1]))
    std = np.empty_like(location)
    for m, rows in reversed(list(enumerate(groups))):
        present = ~np.isnan(rows)
        n = np.maximum(present.sum(axis=0), 1)
        location[m] = np.where(present, rows, 0.0).sum(axis=0) / n
        deviation = np.where(present, rows - location[m], 0.0)
        std[m] = np.sqrt((deviation**2).sum(axis=0) / n)
        # An entity that never sent a feature knows nothing about it; the fleet does.
        absent = ~present.any(axis=0)
        location[m, absent], std[m, absent] = location[-1, absent], std[-1, absent]
    return Scaling(location, _positive(location, std))


def _positive(location: FloatArray, std: FloatArray) -> FloatArray:
    varies = std > 1e-9 * np.maximum(np.abs(location), 1e-300)
    typical = np.array([np.median(s[v]) if v.any() else 1.0 for s, v in zip(std, varies, strict=True)])
    fallback = np.where(location != 0, 0.01 * np.abs(location), typical[:, None])
    # An entity's constant feature that varies elsewhere in the fleet borrows the fleet's scale.
    fallback = np.where(varies[-1], std[-1], fallback)
    return np.where(varies, std, fallback)
