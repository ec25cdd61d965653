"""The Gaussian mixture: every record is drawn afresh from one of K correlated bells.

It remembers nothing of an entity, so its state rows are empty; what the past says of the next record is
left to the predictor in front of it.
"""

from typing import ClassVar, Self

import numpy as np

from detector.batch import FloatArray
from detector.models.arrays import take, take_distribution
from detector.models.contract import Arrays, Evidence, Explanation, Regime, most_probable
from detector.models.gaussians import Gaussians
from detector.models.log_space import posterior
from detector.models.memoryless import Memoryless


class Gmm(Memoryless):
    """A mixture of K Gaussians over D features.

    Args:
        weights: Shape (K,), summing to one.
        means: Shape (K, D).
        covariances: Shape (K, D, D); (1, D, D) when tied, all K sharing it; variances of shape (K, D) when
            diagonal.

    Raises:
        ValueError: A covariance is not symmetric and positive definite.
    """

    name: ClassVar[str] = "gmm"
    evidence: ClassVar[Evidence] = "exact"

    def __init__(self, weights: FloatArray, means: FloatArray, covariances: FloatArray) -> None:
        self._weights = weights
        with np.errstate(divide="ignore"):
            self._log_weights = np.log(weights)
        self._gaussians = Gaussians(means, covariances)

    @property
    def n_features(self) -> int:
        return self._gaussians.n_features

    @property
    def n_components(self) -> int:
        return self._gaussians.n_components

    @property
    def covariance(self) -> str:
        """Shape of the covariances: ``full``, ``diagonal`` or ``tied``; a single component's is full."""
        if self._gaussians.is_diagonal:
            return "diagonal"
        return "full" if len(self._gaussians.covariances) == self.n_components else "tied"

    @property
    def latent_size(self) -> int:
        return self.n_components

    def log_likelihood(self, x: FloatArray) -> FloatArray:
        """Return log p(x_n) of the observed features of each record.

        Args:
            x: Shape (N, D); NaN is missing and integrated out exactly.

        Returns:
            Shape (N,), nats; NaN for a record without any feature.

        Raises:
            ValueError: ``x`` does not have D columns.
        """
        result = self._gaussians.log_mixture(self._log_weights, x)
        missing = np.isnan(x)
        if missing.any():
            result[missing.all(axis=1)] = np.nan
        return result

    def explain(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> Explanation:
        """Return the exact conditional of each feature given the record's other features."""
        log_weights = np.broadcast_to(self._log_weights, (len(x), self.n_components))
        return self._gaussians.explain(log_weights, x)

    def latent(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> FloatArray:
        """Return the responsibilities: the posterior of each record's component, shape (N, K)."""
        return posterior(self._gaussians.log_density(x) + self._log_weights, self._log_weights)

    def regime(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> Regime:
        """Return the most responsible component of one record."""
        return most_probable("component", self.latent(rows, x, gap_s))

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n independent records, shape (n, D)."""
        component = rng.choice(self.n_components, size=n, p=self._weights)
        return self._gaussians.sample(component, rng)

    def arrays(self) -> Arrays:
        return {
            "weights": self._weights,
            "means": self._gaussians.means,
            "covariances": self._gaussians.covariances,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        weights = take_distribution(arrays, "weights", (None,))
        means = take(arrays, "means", (len(weights), None))
        n_components, n_features = means.shape
        shape = np.shape(arrays.get("covariances", ()))
        if len(shape) == 2:
            return cls(weights, means, take(arrays, "covariances", (n_components, n_features)))
        n_covariances = 1 if shape[:1] == (1,) else n_components
        return cls(weights, means, take(arrays, "covariances", (n_covariances, n_features, n_features)))
