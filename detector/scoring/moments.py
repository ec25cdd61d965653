"""Where each entity's surprise lies, on one scale for all of them."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.contract import Arrays

# Rows at which an entity's own moments and the fleet's weigh the same.
_SHRINKAGE_ROWS = 200
# Of Gaussian surprise averaged over two records, the first makes a nat a nat. The second is for streams that
# hardly ever move.
_OF_BODY, _LEAST_OF_HIGH = 1.5, 0.05


@dataclass(frozen=True, slots=True)
class Moments:
    """Where an entity's surprise lies: M models, the last one pooled."""

    location: FloatArray
    """Shape (M,), the median, nats."""
    scale: FloatArray
    """Shape (M,), from the median to the 95th percentile or alike, nats, positive."""

    @classmethod
    def fit(cls, surprise: FloatArray, model: IntArray, n_models: int) -> Self:
        """Measure every entity, shrunk towards all rows together.

        Args:
            surprise: Nats, shape (M,); infinite values count as the largest or smallest finite one.
            model: Entity of each row, shape (M,), in [0, n_models).
            n_models: Entities plus one.
        """
        if not np.isfinite(surprise).any():
            return cls(np.zeros(n_models), np.ones(n_models))
        finite = bounded(surprise)
        pooled_location, pooled_scale = median_and_spread(finite)
        location = np.full(n_models, pooled_location)
        scale = np.full(n_models, pooled_scale)
        for m in np.unique(model):
            own = finite[model == m]
            weight = own.size / (own.size + _SHRINKAGE_ROWS)
            own_location, own_scale = median_and_spread(own)
            location[m] = weight * own_location + (1 - weight) * pooled_location
            scale[m] = weight * own_scale + (1 - weight) * pooled_scale
        location[-1], scale[-1] = pooled_location, pooled_scale
        return cls(location, scale)

    @classmethod
    def of_few(cls, surprise: FloatArray, n_models: int) -> Self:
        """Measure few rows, of whom incidents may be a tenth: all models alike, and by the body alone.

        Args:
            surprise: Nats, shape (M,); infinite values count as the largest or smallest finite one.
            n_models: Entities plus one.
        """
        finite = bounded(surprise)
        least, third_quartile, high = np.quantile(finite, [0.01, 0.75, 0.95])
        scale = max(_OF_BODY * (third_quartile - least), _LEAST_OF_HIGH * (high - least), 1e-6)
        return cls(np.full(n_models, float(least)), np.full(n_models, float(scale)))

    def normalise(self, surprise: FloatArray, model: IntArray) -> FloatArray:
        """Return surprise on the scale that all entities share, shape (N,)."""
        return (surprise - self.location[model]) / self.scale[model]

    def arrays(self) -> Arrays:
        """Return everything, ready for safetensors."""
        return {"location": self.location, "scale": self.scale}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Rebuild from ``arrays()``.

        Raises:
            KeyError: An array is absent.
            ValueError: They are no moments.
        """
        moments = cls(arrays["location"], arrays["scale"])
        if not (np.isfinite(moments.location).all() and (moments.scale > 0).all()):
            raise ValueError("calibration moments must be finite, with positive scales")
        return moments


def bounded(surprise: FloatArray) -> FloatArray:
    """Return surprise with infinite values replaced by the largest and smallest finite one, or else by 0."""
    finite = surprise[np.isfinite(surprise)]
    return np.clip(surprise, finite.min(), finite.max()) if finite.size else np.zeros(surprise.shape)


def median_and_spread(surprise: FloatArray) -> tuple[float, float]:
    """Return the median of finite nats, and how far from there to the 95th percentile, positive."""
    median, high = np.quantile(surprise, [0.5, 0.95])
    return float(median), max(float(high - median), 1e-6)
