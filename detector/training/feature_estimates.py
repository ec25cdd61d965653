"""From values of one feature, and how much of each belongs to which class, to its density in each class."""

from typing import Protocol

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.feature_densities import FeatureDensity, GaussianFeature, HistogramFeature

VARIANCE_FLOOR = 1e-3
"""Added to every variance, relative to the variance of the feature's body."""
NARROWEST_BIN = float(np.sqrt(2.0 * np.pi * VARIANCE_FLOOR))
"""Least width of a bin and least scale of a tail, relative to the standard deviation of the feature's body:
as dense as a bell of the least variance is at its peak, so that neither kind wins by being narrower."""

# Rows that every class is given of the feature over all classes, so that an empty class has a spread.
_GAUSSIAN_PRIOR_ROWS = 1e-6
_HISTOGRAM_PRIOR_ROWS_PER_CELL = 0.5
_TAIL_SHARE = 0.005
_MOST_BINS = 64


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
        self._tail_scales = np.array(
            [
                max(narrowest, _median(self._edges[0] - seen[self._cell == 0]) / np.log(2.0)),
                max(narrowest, _median(seen[self._cell == len(self._edges)] - self._edges[-1]) / np.log(2.0)),
            ]
        )

    def density(self, responsibilities: FloatArray) -> HistogramFeature:
        weights = responsibilities[self._observed]
        n_cells = len(self._edges) + 1
        counts = np.stack([np.bincount(self._cell, weights=w, minlength=n_cells) for w in weights.T])
        prior_rows = _HISTOGRAM_PRIOR_ROWS_PER_CELL * n_cells
        pooled = counts.sum(axis=0) + _HISTOGRAM_PRIOR_ROWS_PER_CELL
        blended = counts + prior_rows * pooled / pooled.sum()
        return HistogramFeature(self._edges, blended / blended.sum(axis=1, keepdims=True), self._tail_scales)


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


def _median(distances: FloatArray) -> float:
    return float(np.median(distances)) if distances.size else 0.0


ESTIMATES: dict[str, type[GaussianEstimate] | type[HistogramEstimate]] = {
    GaussianFeature.kind: GaussianEstimate,
    HistogramFeature.kind: HistogramEstimate,
}
"""Kinds of densities, the plainest first."""
