"""Probabilities of one discrete feature in each of C classes: counts, and categories of a vocabulary.

They answer the questions of ``feature_densities.FeatureDensity``, with probabilities for densities. What is
no value of the kind at all (half a count, a category of -1) is outside the support, ``-inf``.
"""

from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np
from scipy.special import betaln, gammaln

from detector.batch import FloatArray, IntArray
from detector.models.arrays import take_distribution
from detector.models.contract import Arrays
from detector.models.feature_densities import draw_cells, mixed_moments, take_positive

# Smaller counts are looked up, larger ones calculated: Stirling's series is exact there but for rounding.
_TABULATED_COUNTS = np.arange(1024.0)
# Beyond it the logarithm of a factorial overflows.
_LARGEST_COUNT = 1e300
_HALF_LOG_2PI = float(0.5 * np.log(2.0 * np.pi))


class PoissonFeature:
    """Counts of independent events.

    Args:
        rate: Shape (C,), positive.
    """

    kind: ClassVar[str] = "poisson"

    def __init__(self, rate: FloatArray) -> None:
        self.mean = self.variance = rate
        self._log_rate = np.log(rate)
        counts, column = _TABULATED_COUNTS, rate[:, None]
        self._table = _with_impossible(counts * np.log(column) - column - gammaln(counts + 1.0))

    def log_density(self, x: FloatArray) -> FloatArray:
        return _log_probability(x, self._table, self._beyond_table)

    def _beyond_table(self, counts: FloatArray) -> FloatArray:
        log_counts = np.log(counts)
        result = (self._log_rate[:, None] - log_counts) * counts
        result -= self.mean[:, None]
        result += counts - 0.5 * log_counts - _HALF_LOG_2PI - _stirling(counts)
        return np.asarray(result)

    def expectation(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        return mixed_moments(weights, self.mean, self.variance)

    def sample(self, classes: IntArray, rng: np.random.Generator) -> FloatArray:
        return rng.poisson(self.mean[classes]).astype(np.float64)

    def arrays(self) -> Arrays:
        return {"rate": self.mean}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, n_classes: int) -> Self:
        return cls(take_positive(arrays, f"{prefix}rate", n_classes))


class NegativeBinomialFeature:
    """Counts whose rate varies: a Poisson rate drawn anew, from a gamma distribution, for every record.

    Args:
        mean: Shape (C,), positive.
        size: Shape (C,), positive: the variance is mean + mean² / size, so a large size is nearly Poisson.
    """

    kind: ClassVar[str] = "negative_binomial"

    def __init__(self, mean: FloatArray, size: FloatArray) -> None:
        self.mean = mean
        self._size = size
        self.variance = mean + mean**2 / size
        self._log_at_zero = -size * np.log1p(mean / size)
        self._log_ratio = -np.log1p(size / mean)
        self._log_gamma_of_size = gammaln(size)
        counts, column = _TABULATED_COUNTS, size[:, None]
        log_choices = -betaln(column, counts + 1.0) - np.log(counts + column)
        self._table = _with_impossible(
            log_choices + self._log_at_zero[:, None] + counts * self._log_ratio[:, None]
        )

    def log_density(self, x: FloatArray) -> FloatArray:
        return _log_probability(x, self._table, self._beyond_table)

    def _beyond_table(self, counts: FloatArray) -> FloatArray:
        more, next_count = self._size[:, None] - 1.0, counts + 1.0
        # log Gamma(count + size) - log Gamma(count + 1), whose large terms cancel on paper.
        result = (next_count + (more - 0.5)) * np.log1p(more / next_count)
        result += more * (np.log(next_count) - 1.0)
        result += _stirling(next_count + more) - _stirling(next_count)
        result += (self._log_at_zero - self._log_gamma_of_size)[:, None]
        result += counts * self._log_ratio[:, None]
        return np.asarray(result)

    def expectation(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        return mixed_moments(weights, self.mean, self.variance)

    def sample(self, classes: IntArray, rng: np.random.Generator) -> FloatArray:
        rate = rng.standard_gamma(self._size[classes]) * (self.mean / self._size)[classes]
        return rng.poisson(rate).astype(np.float64)

    def arrays(self) -> Arrays:
        return {"mean": self.mean, "size": self._size}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, n_classes: int) -> Self:
        mean = take_positive(arrays, f"{prefix}mean", n_classes)
        return cls(mean, take_positive(arrays, f"{prefix}size", n_classes))


class TabulatedFeature:
    """Counts below T each with a probability of its own, and a geometric tail from T on.

    Args:
        probabilities: Shape (C, T + 1), of 0 to T - 1 and of all from T on; rows sum to one.
        tail_scale: Shape (1,), steps in which the tail falls by one nat, positive.
    """

    kind: ClassVar[str] = "tabulated"

    def __init__(self, probabilities: FloatArray, tail_scale: FloatArray) -> None:
        self._probabilities = probabilities
        self._tail_scale = tail_scale
        self._first = float(probabilities.shape[1] - 1)
        ratio = float(np.exp(-1.0 / tail_scale[0]))
        with np.errstate(divide="ignore"):
            log_probabilities = np.log(probabilities)
        self._table = _with_impossible(log_probabilities[:, :-1])
        self._log_at_first = log_probabilities[:, -1] + np.log1p(-ratio)
        tail_mean, tail_variance = self._first + ratio / (1.0 - ratio), ratio / (1.0 - ratio) ** 2
        centres = np.append(np.arange(self._first), tail_mean)
        self.mean = np.asarray(probabilities @ centres)
        square = (probabilities * (centres - self.mean[:, None]) ** 2).sum(axis=1)
        self.variance = np.asarray(square + probabilities[:, -1] * tail_variance)

    def log_density(self, x: FloatArray) -> FloatArray:
        return _log_probability(x, self._table, self._beyond_table)

    def _beyond_table(self, counts: FloatArray) -> FloatArray:
        return np.asarray(self._log_at_first[:, None] - (counts - self._first) / self._tail_scale)

    def expectation(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        return mixed_moments(weights, self.mean, self.variance)

    def sample(self, classes: IntArray, rng: np.random.Generator) -> FloatArray:
        cell = draw_cells(self._probabilities, classes, rng)
        # A geometric variable is an exponential one rounded down.
        beyond = np.floor(self._tail_scale * rng.standard_exponential(len(classes)))
        return np.asarray(np.where(cell == self._first, self._first + beyond, cell))

    def arrays(self) -> Arrays:
        return {"probabilities": self._probabilities, "tail_scale": self._tail_scale}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, n_classes: int) -> Self:
        name = f"{prefix}probabilities"
        probabilities = take_distribution(arrays, name, (n_classes, None))
        if probabilities.shape[1] < 2:
            raise ValueError(f"array {name!r} tabulates no count; train the bundle again")
        return cls(probabilities, take_positive(arrays, f"{prefix}tail_scale", 1))


class CategoricalFeature:
    """V values of a vocabulary, and one probability for all that are not in it.

    The mode is what is expected, and it has no standard deviation: NaN. A binary feature is one of two
    values and nothing else, which the others have probability zero to say.

    Args:
        probabilities: Shape (C, V + 1), of the values and, last, of any value not among them; rows sum
            to one.
    """

    kind: ClassVar[str] = "categorical"

    def __init__(self, probabilities: FloatArray) -> None:
        self._probabilities = probabilities
        with np.errstate(divide="ignore"):
            self._table = _with_impossible(np.log(probabilities))

    @property
    def n_values(self) -> int:
        return int(self._probabilities.shape[1]) - 1

    def log_density(self, x: FloatArray) -> FloatArray:
        return np.asarray(self._table.take(_index(x, self._probabilities.shape[1]), axis=1))

    def expectation(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        probability = np.zeros((len(weights), self.n_values))
        # Class by class: a product of matrices would add up in an order that depends on their shapes.
        for weight, own in zip(weights.T, self._probabilities, strict=True):
            probability += weight[:, None] * own[:-1]
        return probability.argmax(axis=1).astype(np.float64), np.full(len(weights), np.nan)

    def sample(self, classes: IntArray, rng: np.random.Generator) -> FloatArray:
        """Draw values of the vocabulary: what lies outside it has no value to draw."""
        known = self._probabilities[:, :-1]
        return draw_cells(known / known.sum(axis=1, keepdims=True), classes, rng).astype(np.float64)

    def arrays(self) -> Arrays:
        return {"probabilities": self._probabilities}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, n_classes: int) -> Self:
        name = f"{prefix}probabilities"
        probabilities = take_distribution(arrays, name, (n_classes, None))
        if not (probabilities[:, :-1].sum(axis=1) > 0).all():
            raise ValueError(f"array {name!r} gives no value a chance; train the bundle again")
        return cls(probabilities)


def _stirling(z: FloatArray) -> FloatArray:
    """Return what log Gamma(z) exceeds (z - 1/2) log z - z + log(2 pi) / 2 by, z >= 1,000."""
    inverse = 1.0 / z
    return inverse * (1.0 / 12.0 - inverse * inverse * (1.0 / 360.0))


def _index(x: FloatArray, n: int) -> IntArray:
    """Return x where it is a whole number in [0, n), and n elsewhere, shape (N,)."""
    index = np.fmin(np.fmax(x, -0.5), float(n)).astype(np.int64)
    return np.where(index == x, index, n)


def _with_impossible(table: FloatArray) -> FloatArray:
    """Return a table of log-probabilities with a last column for what the table has no place for."""
    return np.column_stack((table, np.full(len(table), -np.inf)))


def _log_probability(
    x: FloatArray, table: FloatArray, beyond_table: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    """Return log-probabilities of counts, shape (C, N), ``-inf`` for what is no count.

    Args:
        x: Shape (N,).
        table: Shape (C, T + 1), of the counts 0 to T - 1, then ``-inf``.
        beyond_table: From counts >= T, shape (N,), to their log-probabilities, shape (C, N).
    """
    n_tabulated = table.shape[1] - 1
    index = _index(x, n_tabulated)
    result = table.take(index, axis=1)
    if (index == n_tabulated).any():
        is_large = (x >= n_tabulated) & (x == np.floor(x))
        counts = np.fmin(np.fmax(x, float(n_tabulated)), _LARGEST_COUNT)
        result = np.where(is_large, beyond_table(counts), result)
    return result
