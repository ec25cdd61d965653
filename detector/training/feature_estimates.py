"""From values of a continuous feature, and how much of each belongs to which class, to its densities."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.feature_densities import (
    FeatureDensity,
    GaussianFeature,
    HistogramFeature,
    KernelFeature,
    StudentFeature,
)

VARIANCE_FLOOR = 1e-3
"""Added to every variance, relative to the variance of the feature's body."""
NARROWEST_BIN = float(np.sqrt(2.0 * np.pi * VARIANCE_FLOOR))
"""Least width of a bin and least scale of a tail, relative to the standard deviation of the feature's body:
as dense as a bell of the least variance is at its peak, so that no kind wins by being narrower."""
NARROWEST_KERNEL = float(np.sqrt(VARIANCE_FLOOR))
"""Least bandwidth of a kernel, likewise."""

# Rows that every class is given of the feature over all classes, so that an empty class has a spread.
_GAUSSIAN_PRIOR_ROWS = 1e-9
_HISTOGRAM_PRIOR_ROWS_PER_CELL = 0.5
_PRIOR_ROWS_PER_KERNEL = 0.5
_TAIL_SHARE = 0.005
_MOST_BINS = 64
# Of the range of the feature's body.
_BANDWIDTH_SHARE = 0.1
_KNOTS_PER_BANDWIDTH = 4
_REACH = 4
"""Bandwidths after which a kernel is cut off, and by which knots reach beyond the body of the values."""


class FeatureEstimate(Protocol):
    """Estimates one kind of density from N values, again for each way to share them among C classes."""

    def density(self, responsibilities: FloatArray) -> FeatureDensity:
        """Return the likeliest density; ``responsibilities`` has shape (N, C), rows summing to one."""
        ...


class GaussianEstimate:
    """Weighted mean and variance.

    Args:
        values: Shape (N,); NaN is missing and counts for nothing, but not everywhere.
        scale: Standard deviation of the feature's body.
    """

    def __init__(self, values: FloatArray, scale: float) -> None:
        self._observed: BoolArray = ~np.isnan(values)
        self._values = values[self._observed]
        self._mean, self._variance = float(self._values.mean()), float(self._values.var())
        self._floor = VARIANCE_FLOOR * scale**2

    def density(self, responsibilities: FloatArray) -> GaussianFeature:
        weights = responsibilities[self._observed]
        rows = weights.sum(axis=0) + _GAUSSIAN_PRIOR_ROWS
        mean = (weights.T @ self._values + _GAUSSIAN_PRIOR_ROWS * self._mean) / rows
        squares = (weights * (self._values[:, None] - mean) ** 2).sum(axis=0)
        variance = (squares + _GAUSSIAN_PRIOR_ROWS * self._variance) / rows + self._floor
        return GaussianFeature(mean, np.sqrt(variance))


class StudentEstimate:
    """Heavy tails around the weighted mean, with the weighted variance.

    Not the likeliest such density, which is narrower: it is asked for where values far out are to be borne.

    Args:
        values: Shape (N,); NaN is missing and counts for nothing, but not everywhere.
        scale: Standard deviation of the feature's body.
    """

    def __init__(self, values: FloatArray, scale: float) -> None:
        self._moments = GaussianEstimate(values, scale)

    def density(self, responsibilities: FloatArray) -> StudentFeature:
        bell = self._moments.density(responsibilities)
        return StudentFeature(bell.mean, np.sqrt(bell.variance))


class HistogramEstimate:
    """Weighted counts in bins that are narrow where the values are many.

    The outermost 0.5 % on either side are left to the tails, whose scale is their median distance from the
    bins over log 2, as of an exponential; one absurd value does not stretch it. The counts of a class are
    blended with those of all classes, half a row per bin of them.

    Args:
        values: Shape (N,); NaN is missing and counts for nothing, but not everywhere.
        scale: Standard deviation of the feature's body.
    """

    def __init__(self, values: FloatArray, scale: float) -> None:
        self._observed: BoolArray = ~np.isnan(values)
        seen = values[self._observed]
        narrowest = NARROWEST_BIN * scale
        self._edges = bin_edges(seen, narrowest)
        self._cell: IntArray = np.searchsorted(self._edges, seen, side="right")
        self._tail_scales = _tail_scales(seen, self._edges[[0, -1]], narrowest)

    def density(self, responsibilities: FloatArray) -> HistogramFeature:
        weights = responsibilities[self._observed]
        n_cells = len(self._edges) + 1
        counts = np.stack([np.bincount(self._cell, weights=w, minlength=n_cells) for w in weights.T])
        prior_rows = _HISTOGRAM_PRIOR_ROWS_PER_CELL * n_cells
        pooled = counts.sum(axis=0) + _HISTOGRAM_PRIOR_ROWS_PER_CELL
        blended = counts + prior_rows * pooled / pooled.sum()
        return HistogramFeature(self._edges, blended / blended.sum(axis=1, keepdims=True), self._tail_scales)


class KernelEstimate:
    """Weighted Gaussian kernels of one bandwidth, tabulated at knots a quarter of it apart.

    The bandwidth is a tenth of the range of the body of the values, which is all but the outermost 0.5 % on
    either side: far wider than what predicts best, because an anomaly that a sharp density finds is mostly a
    value that training happened not to hold. Knots span the body and four bandwidths more; what lies beyond
    shapes the tails' scales as in a histogram. Kernels of a class are blended with those of all classes, half
    a row per kernel that the values are spread over, and with one row spread evenly.

    Args:
        values: Shape (N,); NaN is missing and counts for nothing, but not everywhere.
        scale: Standard deviation of the feature's body.
    """

    def __init__(self, values: FloatArray, scale: float) -> None:
        self._observed: BoolArray = ~np.isnan(values)
        seen = values[self._observed]
        body = np.quantile(seen, [_TAIL_SHARE, 1.0 - _TAIL_SHARE])
        self._bandwidth = max(NARROWEST_KERNEL * scale, float(body[1] - body[0]) * _BANDWIDTH_SHARE)
        self._grid = _KernelGrid.over(body, self._bandwidth)
        self._cell = self._grid.cell(seen)
        self._tail_scales = _tail_scales(seen, body, NARROWEST_BIN * scale)
        self._pooled = self._smooth(np.ones(len(seen)))
        self._prior_rows = _PRIOR_ROWS_PER_KERNEL * self._grid.kernels(self._cell, self._pooled)

    def density(self, responsibilities: FloatArray) -> KernelFeature:
        weights = responsibilities[self._observed]
        smooth = np.stack([self._smooth(w) for w in weights.T])
        blended = smooth + self._prior_rows / (len(weights) + 1.0) * self._pooled
        return KernelFeature(self._grid.ends, np.log(blended), self._tail_scales, self._bandwidth)

    def _smooth(self, weights: FloatArray) -> FloatArray:
        """Return the weighted kernels at the knots, and the weights' part of the row spread evenly."""
        evenly = float(weights.mean()) / self._grid.span
        return np.asarray(self._grid.smooth(self._cell, weights) + evenly)


@dataclass(frozen=True, slots=True)
class _KernelGrid:
    """K knots for Gaussian kernels of one bandwidth, and cells around them as far out as kernels reach."""

    ends: FloatArray
    """Shape (2,), the first and the last knot."""
    n_knots: int
    kernel: FloatArray
    """Density of one kernel at the distances of knots within reach, middle first in the middle."""

    @classmethod
    def over(cls, body: FloatArray, bandwidth: float) -> "_KernelGrid":
        ends = body + np.array([-_REACH, _REACH]) * bandwidth
        n_knots = int(np.ceil((ends[1] - ends[0]) / bandwidth * _KNOTS_PER_BANDWIDTH)) + 1
        step = (ends[1] - ends[0]) / (n_knots - 1)
        reach = _REACH * _KNOTS_PER_BANDWIDTH
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / bandwidth) ** 2)
        return cls(ends, n_knots, kernel / (kernel.sum() * step))

    @property
    def span(self) -> float:
        return float(self.ends[1] - self.ends[0])

    def cell(self, values: FloatArray) -> IntArray:
        """Return the cell of each value, shape (N,); those out of all reach are in the outer two."""
        reach = len(self.kernel) // 2
        position = (values - self.ends[0]) / self.span * (self.n_knots - 1)
        n_inner = self.n_knots + 2 * reach
        return np.asarray(np.clip(np.rint(position) + reach + 1, 0, n_inner + 1).astype(np.int64))

    def smooth(self, cell: IntArray, weights: FloatArray) -> FloatArray:
        """Return the weighted sum of the kernels at the knots, shape (K,)."""
        n_cells = self.n_knots + len(self.kernel) + 1
        counts = np.bincount(cell, weights=weights, minlength=n_cells)[1:-1]
        return np.convolve(counts, self.kernel, mode="valid")

    def kernels(self, cell: IntArray, pooled: FloatArray) -> float:
        """Return over how many kernels, side by side, the values are spread."""
        return float((self.kernel.max() / self._at(cell, pooled)).sum())

    def _at(self, cell: IntArray, at_knots: FloatArray) -> FloatArray:
        return at_knots[cell[self._is_at_knot(cell)] - len(self.kernel) // 2 - 1]

    def _is_at_knot(self, cell: IntArray) -> BoolArray:
        reach = len(self.kernel) // 2
        return np.asarray((cell > reach) & (cell <= reach + self.n_knots))


def bin_edges(values: FloatArray, narrowest: float) -> FloatArray:
    """Return the edges of at most 2 N^(1/3) bins, shape (B + 1,).

    Edges are evenly spaced in the mean of rank and position, so that no bin is much wider, or holds much
    more, than twice an even share. They lie between values, never on one; a value far from its neighbours
    has a bin of the narrowest width around it, so that what repeats exactly is told from what lies near.

    Args:
        values: Shape (N,), no NaN.
        narrowest: Least width of a bin.
    """
    distinct, counts = np.unique(values, return_counts=True)
    gap = np.diff(distinct)
    below = np.cumsum(counts)[:-1] / len(values)
    is_wide = gap >= 2.0 * narrowest
    margin = np.where(is_wide, 0.5 * narrowest, 0.5 * gap)
    cuts = np.concatenate(
        ([distinct[0] - 0.5 * narrowest], distinct[:-1] + margin, (distinct[1:] - margin)[is_wide])
    )
    rank = np.concatenate(([0.0], below, below[is_wide]))
    cuts, rank = np.append(cuts, distinct[-1] + 0.5 * narrowest), np.append(rank, 1.0)
    order = np.argsort(cuts, kind="stable")
    cuts, rank = cuts[order], rank[order]
    first = int(np.searchsorted(rank, _TAIL_SHARE, side="right")) - 1
    last = int(np.searchsorted(rank, 1.0 - _TAIL_SHARE, side="left"))
    cuts, rank = cuts[first : last + 1], rank[first : last + 1]
    n_bins = int(np.clip(round(2.0 * len(values) ** (1.0 / 3.0)), 1, _MOST_BINS))
    progress = 0.5 * (rank - rank[0]) / (rank[-1] - rank[0]) + 0.5 * (cuts - cuts[0]) / (cuts[-1] - cuts[0])
    chosen = np.unique(np.searchsorted(progress, np.linspace(0.0, 1.0, n_bins + 1)).clip(max=len(cuts) - 1))
    return _at_least_apart(cuts[chosen], narrowest)


def _at_least_apart(edges: FloatArray, narrowest: float) -> FloatArray:
    """Leave out edges nearer to their predecessor than a bin may be wide, keeping the outermost two."""
    # Bins of exactly that width are meant, and rounding must not merge them.
    least = narrowest * (1.0 - 1e-6)
    kept = [float(edges[0])]
    for edge in edges[1:-1].tolist():
        if edge - kept[-1] >= least and edges[-1] - edge >= least:
            kept.append(edge)
    return np.array([*kept, max(float(edges[-1]), kept[-1] + narrowest)])


def _tail_scales(values: FloatArray, ends: FloatArray, narrowest: float) -> FloatArray:
    """Return the scales of exponential tails below and above, shape (2,): median distances over log 2."""
    beyond = (ends[0] - values[values < ends[0]], values[values > ends[1]] - ends[1])
    return np.array([max(narrowest, _median(distances) / np.log(2.0)) for distances in beyond])


def _median(distances: FloatArray) -> float:
    return float(np.median(distances)) if distances.size else 0.0
