"""Densities of one feature in each of C classes: a bell, or a histogram with exponential tails.

Every kind answers the same few questions, so a model that combines features needs not know which kind one
has. Classes come first in all shapes: a kind works along records, element by element, and no bit of a
result depends on how many records there are.
"""

from typing import ClassVar, Protocol, Self

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.arrays import take, take_distribution
from detector.models.contract import Arrays

_LOG_2PI = float(np.log(2.0 * np.pi))


class FeatureDensity(Protocol):
    """p(x | class) of one feature, N values, C classes, nats."""

    kind: ClassVar[str]

    @property
    def mean(self) -> FloatArray:
        """Shape (C,)."""
        ...

    @property
    def variance(self) -> FloatArray:
        """Shape (C,)."""
        ...

    def log_density(self, x: FloatArray) -> FloatArray:
        """Return log p(x_n | class c) of values of shape (N,), shape (C, N), never NaN where x is not."""
        ...

    def sample(self, classes: IntArray, rng: np.random.Generator) -> FloatArray:
        """Draw one value from each given class, shape (N,)."""
        ...

    def arrays(self) -> Arrays: ...

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, n_classes: int) -> Self:
        """Rebuild from ``arrays()`` whose names were prefixed.

        Raises:
            ValueError: An array is absent, has a wrong shape, or holds impossible values.
        """
        ...


class GaussianFeature:
    """One bell per class.

    Args:
        mean: Shape (C,).
        std: Shape (C,), positive.
    """

    kind: ClassVar[str] = "gaussian"

    def __init__(self, mean: FloatArray, std: FloatArray) -> None:
        self.mean = mean
        self._std = std
        self._precision_root = 1.0 / std
        self._log_norm = -np.log(std) - 0.5 * _LOG_2PI

    @property
    def variance(self) -> FloatArray:
        return self._std**2

    def log_density(self, x: FloatArray) -> FloatArray:
        result = x - self.mean[:, None]
        result *= self._precision_root[:, None]
        result *= result
        result *= -0.5
        result += self._log_norm[:, None]
        return result

    def sample(self, classes: IntArray, rng: np.random.Generator) -> FloatArray:
        return np.asarray(self.mean[classes] + self._std[classes] * rng.standard_normal(len(classes)))

    def arrays(self) -> Arrays:
        return {"mean": self.mean, "std": self._std}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, n_classes: int) -> Self:
        mean = take(arrays, f"{prefix}mean", (n_classes,))
        return cls(mean, _take_positive(arrays, f"{prefix}std", n_classes))


class HistogramFeature:
    """B bins of constant density, shared by the classes, and an exponential tail on either side of them.

    Values below the first edge have density p_low / s_low exp(-(edge - x) / s_low), values above the last
    one likewise: the mass outside the bins is modelled, not cut off, and falls by one nat per scale s.

    Args:
        edges: Shape (B + 1,), rising.
        probabilities: Shape (C, B + 2), of lower tail, bins, upper tail; rows sum to one.
        tail_scales: Shape (2,), lower and upper s, positive.
    """

    kind: ClassVar[str] = "histogram"

    def __init__(self, edges: FloatArray, probabilities: FloatArray, tail_scales: FloatArray) -> None:
        self._edges = edges
        self._probabilities = probabilities
        self._tail_scales = tail_scales
        low, high = tail_scales
        widths = np.diff(edges)
        with np.errstate(divide="ignore"):
            self._log_density = np.log(probabilities) - np.log(np.concatenate(([low], widths, [high])))
        centres = np.concatenate(([edges[0] - low], edges[:-1] + 0.5 * widths, [edges[-1] + high]))
        within = np.concatenate(([low**2], widths**2 / 12.0, [high**2]))
        self.mean = np.asarray(probabilities @ centres)
        spread = within + (centres - self.mean[:, None]) ** 2
        self.variance = np.asarray((probabilities * spread).sum(axis=1))

    def log_density(self, x: FloatArray) -> FloatArray:
        low, high = self._tail_scales
        cell = np.searchsorted(self._edges, x, side="right")
        result = self._log_density.take(cell, axis=1)
        # Zero inside the bins; at most one of the two is positive.
        result -= np.maximum((self._edges[0] - x) / low, 0.0) + np.maximum((x - self._edges[-1]) / high, 0.0)
        return result

    def sample(self, classes: IntArray, rng: np.random.Generator) -> FloatArray:
        cumulative = np.cumsum(self._probabilities, axis=1)[:, :-1]
        cell = (rng.random(len(classes))[:, None] >= cumulative[classes]).sum(axis=1)
        n_bins = len(self._edges) - 1
        inside = np.clip(cell - 1, 0, n_bins - 1)
        uniform, beyond = rng.random(len(classes)), rng.standard_exponential(len(classes))
        x = self._edges[inside] + uniform * np.diff(self._edges)[inside]
        x = np.where(cell == 0, self._edges[0] - self._tail_scales[0] * beyond, x)
        x = np.where(cell == n_bins + 1, self._edges[-1] + self._tail_scales[1] * beyond, x)
        return np.asarray(x)

    def arrays(self) -> Arrays:
        return {
            "edges": self._edges,
            "probabilities": self._probabilities,
            "tail_scales": self._tail_scales,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, n_classes: int) -> Self:
        edges = take(arrays, f"{prefix}edges", (None,))
        if len(edges) < 2 or (np.diff(edges) <= 0).any():
            raise ValueError(
                f"array '{prefix}edges' must rise, and hold two at least; train the bundle again"
            )
        probabilities = take_distribution(arrays, f"{prefix}probabilities", (n_classes, len(edges) + 1))
        return cls(edges, probabilities, _take_positive(arrays, f"{prefix}tail_scales", 2))


def _take_positive(arrays: Arrays, name: str, length: int) -> FloatArray:
    array = take(arrays, name, (length,))
    if (array <= 0).any():
        raise ValueError(f"array {name!r} must be positive; train the bundle again")
    return array
