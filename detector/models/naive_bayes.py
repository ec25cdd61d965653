"""Naive Bayes: given one of C hidden classes, every feature is drawn independently of the others.

p(x) = sum_c w_c prod_j p_j(x_j | c). Features depend on one another only through the class, which is not
observed. A missing feature drops out of the product, so its marginal is exact. A record's past plays no
part; what the past says of the next record is left to the predictor in front of it.

Continuous features have densities, discrete ones probabilities, and the log-likelihood is of both together.
p-values are ranks of it. While a continuous feature is present they are uniform on normal traffic; of
discrete features alone there are few different values, and their p-values are conservative: P(p <= u) <= u.

References:
    Hastie, Tibshirani and Friedman (2009), The Elements of Statistical Learning, sections 6.6.3 and 6.8.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Self

import numpy as np

from detector.batch import FloatArray
from detector.models.arrays import take, take_distribution
from detector.models.contract import Arrays, Evidence, Explanation, Regime, most_probable
from detector.models.discrete_densities import (
    CategoricalFeature,
    NegativeBinomialFeature,
    PoissonFeature,
    TabulatedFeature,
)
from detector.models.feature_densities import (
    FeatureDensity,
    GaussianFeature,
    HistogramFeature,
    KernelFeature,
    StudentFeature,
    mixed_moments,
)
from detector.models.log_space import log_sum_exp, normalise, posterior
from detector.models.memoryless import Memoryless

# Bundles name a kind by its place here: append only.
_KINDS: tuple[type[FeatureDensity], ...] = (
    GaussianFeature,
    HistogramFeature,
    KernelFeature,
    PoissonFeature,
    NegativeBinomialFeature,
    TabulatedFeature,
    CategoricalFeature,
    StudentFeature,
)
_PLACE_OF_KIND = {kind.kind: place for place, kind in enumerate(_KINDS)}
# C of these columns stay in a core's cache.
_RECORDS_AT_ONCE = 4096
# Explanations square differences from here; farther away they would overflow to inf - inf.
_FARTHEST = 1e100


class NaiveBayes(Memoryless):
    """A mixture of C classes of D independent features, each with a density of its own kind.

    Args:
        class_weights: Shape (C,), summing to one.
        features: D densities over the same C classes.
        stretch: How much farther than its density says values lie from the mean of a class, shape (D, C):
            where the least likely rows did not shape the densities, though most of them are normal. What is
            expected and what is sampled spreads as values do; likelihoods know nothing of it. None is 1.
    """

    name: ClassVar[str] = "naive_bayes"
    evidence: ClassVar[Evidence] = "exact"

    def __init__(
        self,
        class_weights: FloatArray,
        features: Sequence[FeatureDensity],
        stretch: FloatArray | None = None,
    ) -> None:
        self._class_weights = class_weights
        with np.errstate(divide="ignore"):
            self._log_weights = np.log(class_weights)
        self._features = tuple(features)
        self._stretch = np.ones((len(features), len(class_weights))) if stretch is None else stretch
        self._stretched = np.flatnonzero((self._stretch != 1.0).any(axis=1)).tolist()
        self._means, self._stds = self.class_moments() if self._stretched else (np.empty(0), np.empty(0))

    @property
    def n_features(self) -> int:
        return len(self._features)

    @property
    def n_classes(self) -> int:
        return len(self._class_weights)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kind of each feature's density."""
        return tuple(feature.kind for feature in self._features)

    def class_moments(self) -> tuple[FloatArray, FloatArray]:
        """Return what is expected of each feature in each class, and its standard deviation, shape (D, C).

        Of densities alone, however far values are stretched beyond them.
        """
        classes = np.eye(self.n_classes)
        moments = [feature.expectation(classes) for feature in self._features]
        return np.array([mean for mean, _ in moments]), np.array([std for _, std in moments])

    def stretched(self, stretch: FloatArray) -> "NaiveBayes":
        """Return the model with another stretch, shape (D, C)."""
        return NaiveBayes(self._class_weights, self._features, stretch)

    @property
    def latent_size(self) -> int:
        return self.n_classes

    def log_likelihood(self, x: FloatArray) -> FloatArray:
        """Return log p(x_n) of the observed features of each record.

        Args:
            x: Shape (N, D); NaN is missing and integrated out exactly.

        Returns:
            Shape (N,), nats; NaN for a record without any feature.

        Raises:
            ValueError: ``x`` does not have D columns.
        """
        self._check(x)
        result = np.empty(len(x))
        for part in _parts(len(x)):
            result[part] = _log_sum_over_classes(self._joint(x[part]))
        result[np.isnan(x).all(axis=1)] = np.nan
        return result

    def log_joint(self, x: FloatArray) -> FloatArray:
        """Return log p(x_n, class c), shape (N, C); arguments as ``log_likelihood``."""
        self._check(x)
        result = np.empty((len(x), self.n_classes))
        for part in _parts(len(x)):
            result[part] = self._joint(x[part]).T
        return result

    def _check(self, x: FloatArray) -> None:
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise ValueError(f"records have shape {x.shape}, the model has {self.n_features} features")

    def _joint(self, x: FloatArray) -> FloatArray:
        """Return log p(x_n, class c), shape (C, N)."""
        columns = np.ascontiguousarray(x.T)
        joint = np.repeat(self._log_weights[:, None], len(x), axis=1)
        # Sums run in the order of the features, element by element along the records: no bit of a record
        # depends on its neighbours.
        with np.errstate(over="ignore"):
            for feature, column in zip(self._features, columns, strict=True):
                joint += _log_density(feature, column)
        return joint

    def explain(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> Explanation:
        """Return the exact conditional of each feature: its density under the classes, as probable as the
        record's other features make them.

        Of a categorical or binary feature the likeliest value is expected, and the standard deviation is NaN.
        """
        # Filled rather than stacked: sums over classes must run along memory, whatever the batch.
        log_density = np.empty((*x.shape, self.n_classes))
        for j, feature in enumerate(self._features):
            log_density[:, j] = _log_density(feature, np.clip(x[:, j], -_FARTHEST, _FARTHEST)).T
        # Summed from both ends rather than subtracted: an absurd feature would cancel all the others.
        log_others = self._log_weights + _sum_before(log_density) + _sum_before(log_density[:, ::-1])[:, ::-1]
        # Where no class explains the other features at all, none is preferred.
        log_others[np.isneginf(log_others).all(axis=2)] = 0.0
        shape, n_terms = x.shape, x.size
        weights = normalise(log_others.reshape(n_terms, self.n_classes)).reshape(log_others.shape)
        expected, std = np.empty(shape), np.empty(shape)
        for j, feature in enumerate(self._features):
            if j in self._stretched:
                variance = (self._stretch[j] * self._stds[j]) ** 2
                moments = mixed_moments(weights[:, j], self._means[j], variance)
            else:
                moments = feature.expectation(weights[:, j])
            expected[:, j], std[:, j] = moments
        with np.errstate(divide="ignore"):
            log_conditional = np.log(weights) + log_density
        nats = -log_sum_exp(log_conditional.reshape(n_terms, self.n_classes)).reshape(shape)
        return Explanation(
            nats=np.where(np.isnan(x), np.nan, nats),
            expected=expected,
            std=std,
        )

    def latent(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> FloatArray:
        """Return the posterior of each record's class, shape (N, C)."""
        return posterior(self.log_joint(x), self._log_weights)

    def regime(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> Regime:
        """Return the most responsible class of one record."""
        return most_probable("class", self.latent(rows, x, gap_s))

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n independent records, shape (n, D)."""
        classes = rng.choice(self.n_classes, size=n, p=self._class_weights)
        x = np.stack([feature.sample(classes, rng) for feature in self._features], axis=1)
        for j in self._stretched:
            mean = self._means[j, classes]
            x[:, j] = mean + self._stretch[j, classes] * (x[:, j] - mean)
        return x

    def arrays(self) -> Arrays:
        arrays = {
            "class_weights": self._class_weights,
            "kinds": np.array([float(_PLACE_OF_KIND[feature.kind]) for feature in self._features]),
        }
        if self._stretched:
            arrays["stretch"] = self._stretch
        for j, feature in enumerate(self._features):
            arrays |= {_prefix(j) + name: array for name, array in feature.arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        class_weights = take_distribution(arrays, "class_weights", (None,))
        kinds = take(arrays, "kinds", (None,))
        if not np.isin(kinds, np.arange(len(_KINDS))).all():
            raise ValueError(
                f"array 'kinds' names kinds of features that this version does not know ({kinds}); "
                f"it knows {', '.join(_PLACE_OF_KIND)}"
            )
        features = [
            _KINDS[int(place)].from_arrays(arrays, _prefix(j), len(class_weights))
            for j, place in enumerate(kinds)
        ]
        if "stretch" not in arrays:
            return cls(class_weights, features)
        stretch = take(arrays, "stretch", (len(features), len(class_weights)))
        if (stretch < 1.0).any():
            raise ValueError(f"array 'stretch' has {stretch.min()}, not >= 1; train the bundle again")
        return cls(class_weights, features, stretch)


def _prefix(j: int) -> str:
    return f"feature_{j}_"


def _parts(n: int) -> Iterator[slice]:
    for start in range(0, n, _RECORDS_AT_ONCE):
        yield slice(start, start + _RECORDS_AT_ONCE)


def _log_density(feature: FeatureDensity, column: FloatArray) -> FloatArray:
    """Return log p(x_n | class), shape (C, N), 0 for missing values: they say nothing of the class."""
    log_density = feature.log_density(column)
    missing = np.isnan(column)
    if missing.any():
        log_density[:, missing] = 0.0
    return log_density


def _log_sum_over_classes(log_terms: FloatArray) -> FloatArray:
    """Return log(sum(exp(column))) of terms of shape (C, N), shape (N,); ``-inf`` where all terms are."""
    if len(log_terms) == 1:
        return np.asarray(log_terms[0])
    largest = log_terms.max(axis=0)
    largest[np.isneginf(largest)] = 0.0
    # Class by class: in which order an axis is summed depends on the length of the other.
    total = np.zeros_like(largest)
    for terms in log_terms:
        total += np.exp(terms - largest)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(total) + largest)


def _sum_before(terms: FloatArray) -> FloatArray:
    """Return for each feature the sum over those before it, shape (N, D, C)."""
    before = np.zeros_like(terms)
    np.cumsum(terms[:, :-1], axis=1, out=before[:, 1:])
    return before
