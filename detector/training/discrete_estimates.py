"""From values of a discrete feature, and how much of each belongs to which class, to its probabilities.

Classes lean on all rows together: each is given some of them, so that what an almost empty class has not
seen is improbable there, not impossible.
"""

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.discrete_densities import (
    CategoricalFeature,
    NegativeBinomialFeature,
    PoissonFeature,
    TabulatedFeature,
)

# Rows of all classes that a class is given, and values that are added to those of all rows.
_PRIOR_ROWS = 0.5
_MOST_PRIOR_ROWS = 32.0
# A negative binomial of a larger size is a Poisson distribution.
_LARGEST_SIZE = 1e6
_MOST_TABULATED = 256


class PoissonEstimate:
    """Weighted mean. Half an event is added to all rows, so that a rate is never zero.

    Args:
        values: Shape (N,), counts; NaN is missing and counts for nothing, but not everywhere.
    """

    def __init__(self, values: FloatArray) -> None:
        self._observed: BoolArray = ~np.isnan(values)
        self._values = values[self._observed]
        self._rate = (float(self._values.sum()) + _PRIOR_ROWS) / len(self._values)

    def density(self, responsibilities: FloatArray) -> PoissonFeature:
        weights = responsibilities[self._observed]
        return PoissonFeature(_mean(weights, self._values, self._rate))


class NegativeBinomialEstimate:
    """Weighted mean and variance; the size that has them, or one so large that it is nearly Poisson.

    Args:
        values: Shape (N,), counts; NaN is missing and counts for nothing, but not everywhere.
    """

    def __init__(self, values: FloatArray) -> None:
        self._observed: BoolArray = ~np.isnan(values)
        self._values = values[self._observed]
        self._rate = (float(self._values.sum()) + _PRIOR_ROWS) / len(self._values)
        self._variance = float(self._values.var())

    def density(self, responsibilities: FloatArray) -> NegativeBinomialFeature:
        weights = responsibilities[self._observed]
        mean = _mean(weights, self._values, self._rate)
        squares = (weights * (self._values[:, None] - mean) ** 2).sum(axis=0)
        variance = (squares + _PRIOR_ROWS * self._variance) / (weights.sum(axis=0) + _PRIOR_ROWS)
        return NegativeBinomialFeature(mean, mean**2 / np.maximum(variance - mean, mean**2 / _LARGEST_SIZE))


class TabulatedEstimate:
    """Weighted shares of the counts, but for the largest 0.5 % and those from 256 on: these are the tail.

    Its scale is the median distance over log 2, one at least. Every place of the table is given half a row.

    Args:
        values: Shape (N,), counts; NaN is missing and counts for nothing, but not everywhere.
    """

    def __init__(self, values: FloatArray) -> None:
        self._observed: BoolArray = ~np.isnan(values)
        seen = values[self._observed]
        n_tabulated = int(min(_MOST_TABULATED, np.quantile(seen, 0.995) + 1.0))
        self._cell: IntArray = np.minimum(seen, n_tabulated).astype(np.int64)
        beyond = seen[seen >= n_tabulated] - (n_tabulated - 1)
        median = float(np.median(beyond)) if beyond.size else 0.0
        self._tail_scale = np.array([max(1.0, median / np.log(2.0))])
        self._added = np.full(n_tabulated + 1, _PRIOR_ROWS)

    def density(self, responsibilities: FloatArray) -> TabulatedFeature:
        shares = _shares(self._cell, responsibilities[self._observed], self._added)
        return TabulatedFeature(shares, self._tail_scale)


class CategoricalEstimate:
    """Weighted shares of the values of a vocabulary, and of any that is not in it.

    A value that is not in the vocabulary is as probable as those that were seen once are together, and as
    one row at least. Every value of the vocabulary is given half a row.

    Args:
        values: Shape (N,), indices 0 to V; NaN is missing and counts for nothing, but not everywhere.
        n_values: V.
        closed: Whether there can be no other value, which then is impossible.

    References:
        Good (1953), The population frequencies of species and the estimation of population parameters.
    """

    def __init__(self, values: FloatArray, n_values: int, *, closed: bool = False) -> None:
        self._observed: BoolArray = ~np.isnan(values)
        self._cell: IntArray = values[self._observed].astype(np.int64)
        counts = np.bincount(self._cell, minlength=n_values + 1)
        unseen = 0 if closed else max(1, int(np.count_nonzero(counts[:-1] == 1)))
        self._added = np.append(np.full(n_values, _PRIOR_ROWS), unseen)

    def density(self, responsibilities: FloatArray) -> CategoricalFeature:
        return CategoricalFeature(_shares(self._cell, responsibilities[self._observed], self._added))


def _mean(weights: FloatArray, values: FloatArray, pooled: float) -> FloatArray:
    """Return the weighted mean of each class, leaning on that of all rows, shape (C,)."""
    return np.asarray((weights.T @ values + _PRIOR_ROWS * pooled) / (weights.sum(axis=0) + _PRIOR_ROWS))


def _shares(cell: IntArray, weights: FloatArray, added: FloatArray) -> FloatArray:
    """Return the share of each of B cells in each class, leaning on that of all rows, shape (C, B).

    Args:
        cell: Of each row, shape (N,).
        weights: Shape (N, C).
        added: Rows to add to the counts over all rows, shape (B,); each class is given its part of them.
    """
    counts = np.stack([np.bincount(cell, weights=w, minlength=len(added)) for w in weights.T])
    counts += weights.mean(axis=0)[:, None] * added
    pooled = counts.sum(axis=0)
    prior_rows = min(_MOST_PRIOR_ROWS, _PRIOR_ROWS * len(added))
    blended = counts + prior_rows * pooled / pooled.sum()
    return np.asarray(blended / blended.sum(axis=1, keepdims=True))
