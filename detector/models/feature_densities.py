"""Densities of one continuous feature in each of C classes: bells, a histogram, or smoothed kernels.

Every kind answers the same few questions, so a model that combines features needs not know which kind one
has. Classes come first in all shapes: a kind works along records, element by element, and no bit of a
result depends on how many records there are. Histogram and kernels end in exponential tails: beyond the
values seen in training the density falls for ever, by one nat per tail scale, and reaches zero nowhere.
"""

from functools import cached_property
from typing import ClassVar, Protocol, Self

import numpy as np
from scipy.special import betaln

from detector.batch import FloatArray, IntArray
from detector.models.arrays import take, take_distribution
from detector.models.contract import Arrays

_LOG_2PI = float(np.log(2.0 * np.pi))
_MOST_BUCKETS = 4096
_FARTHEST = 1e150
# Points of Gauss-Legendre quadrature between two knots: exact but for rounding while these differ by no more
# than a few nats.
_NODES = 8


class FeatureDensity(Protocol):
    """p(x | class) of one feature, N values, C classes, nats."""

    kind: ClassVar[str]

    def log_density(self, x: FloatArray) -> FloatArray:
        """Return log p(x_n | class c) of values of shape (N,), shape (C, N), never NaN where x is not.

        Continuous features have a density, all others a probability. ``-inf`` is outside the support.
        """
        ...

    def expectation(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return what is expected when class c has weight w_nc, and the standard deviation, both shape (N,).

        Args:
            weights: Shape (N, C), rows summing to one.
        """
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

    def expectation(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        return mixed_moments(weights, self.mean, self.variance)

    def sample(self, classes: IntArray, rng: np.random.Generator) -> FloatArray:
        return np.asarray(self.mean[classes] + self._std[classes] * rng.standard_normal(len(classes)))

    def arrays(self) -> Arrays:
        return {"mean": self.mean, "std": self._std}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, n_classes: int) -> Self:
        mean = take(arrays, f"{prefix}mean", (n_classes,))
        return cls(mean, take_positive(arrays, f"{prefix}std", n_classes))


class StudentFeature:
    """One bell with heavy tails per class, Student's t with five degrees of freedom.

    Far out its surprise grows with the logarithm of the distance: no single feature drowns all others.

    Args:
        mean: Shape (C,).
        std: Shape (C,), standard deviation, positive.
    """

    kind: ClassVar[str] = "student"
    DEGREES_OF_FREEDOM: ClassVar[float] = 5.0

    def __init__(self, mean: FloatArray, std: FloatArray) -> None:
        self.mean = mean
        self._std = std
        nu = self.DEGREES_OF_FREEDOM
        # (x - mean)^2 / (nu s^2), where s is the scale that gives this standard deviation.
        self._precision_root = 1.0 / (std * np.sqrt(nu - 2.0))
        self._log_norm = np.log(self._precision_root) - float(betaln(0.5, 0.5 * nu))

    @property
    def variance(self) -> FloatArray:
        return self._std**2

    def log_density(self, x: FloatArray) -> FloatArray:
        result = x - self.mean[:, None]
        result *= self._precision_root[:, None]
        # Squares of what is farther out would overflow.
        np.clip(result, -_FARTHEST, _FARTHEST, out=result)
        result *= result
        np.log1p(result, out=result)
        result *= -0.5 * (self.DEGREES_OF_FREEDOM + 1.0)
        result += self._log_norm[:, None]
        return result

    def expectation(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        return mixed_moments(weights, self.mean, self.variance)

    def sample(self, classes: IntArray, rng: np.random.Generator) -> FloatArray:
        nu = self.DEGREES_OF_FREEDOM
        scale = self._std[classes] * np.sqrt((nu - 2.0) / nu)
        return np.asarray(self.mean[classes] + scale * rng.standard_t(nu, len(classes)))

    def arrays(self) -> Arrays:
        return {"mean": self.mean, "std": self._std}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, n_classes: int) -> Self:
        mean = take(arrays, f"{prefix}mean", (n_classes,))
        return cls(mean, take_positive(arrays, f"{prefix}std", n_classes))


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
        self._cells = _Cells(edges)
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
        result = self._log_density.take(self._cells.of(x), axis=1)
        # Zero inside the bins; at most one of the two is positive.
        result -= np.maximum((self._edges[0] - x) / low, 0.0) + np.maximum((x - self._edges[-1]) / high, 0.0)
        return result

    def expectation(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        return mixed_moments(weights, self.mean, self.variance)

    def sample(self, classes: IntArray, rng: np.random.Generator) -> FloatArray:
        cell = draw_cells(self._probabilities, classes, rng)
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
        return cls(edges, probabilities, take_positive(arrays, f"{prefix}tail_scales", 2))


class KernelFeature:
    """Smoothed kernels as a table: the log density at K evenly spaced knots, and lines between them.

    Beyond the outermost knots the lines go on as exponential tails, so the density is continuous
    everywhere. It is normalised here, its integral being known.

    Wide kernels make a density that is broader than the values. What is expected, and what is sampled, is
    drawn back towards the mean of its class until the variance is that of the values again.

    Args:
        ends: Shape (2,), where the first and the last knot lie.
        log_shape: Shape (C, K), log density at the knots up to a constant per class, K >= 2.
        tail_scales: Shape (2,), distance in which the lower and the upper tail fall by one nat, positive.
        bandwidth: Standard deviation of the kernels, by whose square they have widened the density.

    References:
        Silverman and Young (1987), The bootstrap: to smooth or not to smooth?, section 4, on shrunk samples.
    """

    kind: ClassVar[str] = "kernel"

    def __init__(
        self, ends: FloatArray, log_shape: FloatArray, tail_scales: FloatArray, bandwidth: float = 0.0
    ) -> None:
        self._ends = ends
        self._log_shape = log_shape
        self._tail_scales = tail_scales
        self._bandwidth = bandwidth
        n_knots = log_shape.shape[1]
        self._last = float(n_knots - 1)
        step = float(ends[1] - ends[0]) / self._last
        self._step = step
        low, high = tail_scales

        shape = log_shape - log_shape.max(axis=1, keepdims=True)
        slopes = np.diff(shape, axis=1)
        # The integral of exp over a line, step (exp(b) - exp(a)) / (b - a), without the cancellation.
        level = np.abs(slopes) < 1e-12
        between = np.where(level, 1.0, np.expm1(slopes) / np.where(level, 1.0, slopes))
        masses = np.column_stack(
            (low * np.exp(shape[:, 0]), step * np.exp(shape[:, :-1]) * between, high * np.exp(shape[:, -1]))
        )
        mass = masses.sum(axis=1, keepdims=True)
        self._probabilities = masses / mass

        # One line per cell over the position in steps from the first knot: lower tail, between knots, upper.
        log_density = shape - np.log(mass)
        self._slopes = np.column_stack(
            (np.full(len(shape), step / low), slopes, np.full(len(shape), -step / high))
        )
        at_knot = np.concatenate(([0.0], np.arange(n_knots)))
        self._intercepts = np.column_stack((log_density[:, 0], log_density)) - self._slopes * at_knot

    @cached_property
    def moments(self) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of each class's density, both shape (C,)."""
        nodes, node_weights = np.polynomial.legendre.leggauss(_NODES)
        centres = self._ends[0] + self._step * (np.arange(self._last) + 0.5)
        x = centres[:, None] + 0.5 * self._step * nodes
        density = np.exp(self.log_density(x.ravel())).reshape(-1, *x.shape)
        density *= 0.5 * self._step * node_weights
        tails = self._probabilities[:, [0, -1]]
        tail_means = self._ends + np.array([-1.0, 1.0]) * self._tail_scales
        mean = (density * x).sum(axis=(1, 2)) + (tails * tail_means).sum(axis=1)
        square = (density * (x - mean[:, None, None]) ** 2).sum(axis=(1, 2))
        tail_squares = self._tail_scales**2 + (tail_means - mean[:, None]) ** 2
        return mean, square + (tails * tail_squares).sum(axis=1)

    @cached_property
    def _shrinking(self) -> FloatArray:
        """By how much less than the density values spread, shape (C,)."""
        return np.sqrt(1.0 - np.minimum(self._bandwidth**2 / self.moments[1], 1.0))

    def log_density(self, x: FloatArray) -> FloatArray:
        position = x - self._ends[0]
        position *= 1.0 / self._step
        # NaN goes to the lower tail, where it stays NaN.
        cell = np.fmin(np.fmax(position, -1.0), self._last)
        np.floor(cell, out=cell)
        cell += 1.0
        index = cell.astype(np.intp)
        result = self._slopes.take(index, axis=1)
        result *= position
        result += self._intercepts.take(index, axis=1)
        return np.asarray(result)

    def expectation(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean, variance = self.moments
        return mixed_moments(weights, mean, self._shrinking**2 * variance)

    def sample(self, classes: IntArray, rng: np.random.Generator) -> FloatArray:
        cell = draw_cells(self._probabilities, classes, rng)
        uniform, beyond = rng.random(len(classes)), rng.standard_exponential(len(classes))
        slope = self._slopes[classes, cell]
        level = np.abs(slope) < 1e-6
        steep = np.where(level, 1.0, np.where((cell == 0) | (cell > self._last), -1.0, slope))
        within = np.where(level, uniform, np.log1p(uniform * np.expm1(steep)) / steep)
        x = self._ends[0] + self._step * (cell - 1 + within)
        x = np.where(cell == 0, self._ends[0] - self._tail_scales[0] * beyond, x)
        x = np.where(cell > self._last, self._ends[1] + self._tail_scales[1] * beyond, x)
        mean = self.moments[0][classes]
        return np.asarray(mean + self._shrinking[classes] * (x - mean))

    def arrays(self) -> Arrays:
        return {
            "ends": self._ends,
            "log_shape": self._log_shape,
            "tail_scales": self._tail_scales,
            "bandwidth": np.array([self._bandwidth]),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, n_classes: int) -> Self:
        ends = take(arrays, f"{prefix}ends", (2,))
        log_shape = take(arrays, f"{prefix}log_shape", (n_classes, None))
        if ends[0] >= ends[1] or log_shape.shape[1] < 2:
            raise ValueError(
                f"array '{prefix}ends' is {ends} for {log_shape.shape[1]} knots; it must rise, and there "
                "must be two knots at least; train the bundle again"
            )
        bandwidth = float(take(arrays, f"{prefix}bandwidth", (1,))[0])
        if bandwidth < 0:
            raise ValueError(f"array '{prefix}bandwidth' is {bandwidth}, not >= 0; train the bundle again")
        return cls(ends, log_shape, take_positive(arrays, f"{prefix}tail_scales", 2), bandwidth)


class _Cells:
    """Finds the cell of a value among rising edges, as ``searchsorted(edges, x, side="right")`` does, faster.

    Even buckets say between which edges a value can lie, and comparing with those decides. A value and an
    edge are put into buckets by the same rising function, so rounding never puts a value into a wrong cell.
    """

    def __init__(self, edges: FloatArray) -> None:
        self._edges = np.append(edges, np.inf)
        span = edges[-1] - edges[0]
        self._n_buckets = int(min(_MOST_BUCKETS, np.ceil(span / np.diff(edges).min()) + 1))
        self._per_unit = self._n_buckets / span
        bucket = self._bucket(edges)
        self._edges_before = np.searchsorted(bucket, np.arange(self._n_buckets + 2))
        self._most_in_bucket = int(np.bincount(bucket).max())

    def of(self, x: FloatArray) -> IntArray:
        """Return how many edges lie at or below each value, shape (N,); 0 for NaN."""
        cell: IntArray = self._edges_before.take(self._bucket(x))
        for _ in range(self._most_in_bucket):
            cell += x >= self._edges.take(cell)
        return cell

    def _bucket(self, x: FloatArray) -> IntArray:
        position = x - self._edges[0]
        position *= self._per_unit
        position += 1.0
        return np.asarray(np.fmin(np.fmax(position, 0.0), self._n_buckets + 1.0).astype(np.int64))


def mixed_moments(
    weights: FloatArray, mean: FloatArray, variance: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation of mixtures of C classes, both shape (N,).

    Args:
        weights: Shape (N, C), rows summing to one.
        mean: Of each class, shape (C,).
        variance: Of each class, shape (C,).
    """
    expected = (weights * mean).sum(axis=1)
    spread = variance + (mean - expected[:, None]) ** 2
    return np.asarray(expected), np.sqrt((weights * spread).sum(axis=1))


def draw_cells(probabilities: FloatArray, classes: IntArray, rng: np.random.Generator) -> IntArray:
    """Draw one of B cells for each given class, shape (N,).

    Args:
        probabilities: Shape (C, B), rows summing to one.
        classes: Shape (N,).
        rng: The only source of chance.
    """
    n_classes, n_cells = probabilities.shape
    # One rising row of all classes' steps, each class's on an interval of its own.
    steps = np.cumsum(probabilities, axis=1)[:, :-1].clip(max=1.0) + np.arange(n_classes)[:, None]
    cell = np.searchsorted(steps.ravel(), classes + rng.random(len(classes)), side="right")
    return np.asarray(np.clip(cell - classes * (n_cells - 1), 0, n_cells - 1))


def take_positive(arrays: Arrays, name: str, length: int) -> FloatArray:
    """Return an array of shape (length,) from a bundle.

    Raises:
        ValueError: As ``take``, or a value is not positive.
    """
    array = take(arrays, name, (length,))
    if (array <= 0).any():
        raise ValueError(f"array {name!r} must be positive; train the bundle again")
    return array
