"""Gaussian mixtures of many entities, as one: each record under its own, a few array operations for all."""

from collections.abc import Sequence

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.gmm import Gmm
from detector.models.log_space import log_sum_exp
from detector.models.stacked_gaussians import StackedGaussians


class StackedGmm:
    """E mixtures of equally many components over the same D features, their covariances of any shape."""

    def __init__(self, mixtures: Sequence[Gmm]) -> None:
        each = [mixture.arrays() for mixture in mixtures]
        covariances = [arrays["covariances"] for arrays in each]
        if len({array.shape for array in covariances}) > 1:
            covariances = [full_covariances(mixture) for mixture in mixtures]
        with np.errstate(divide="ignore"):
            self._log_weights = np.log(np.stack([arrays["weights"] for arrays in each]))
        means = np.stack([arrays["means"] for arrays in each])
        self._gaussians = StackedGaussians(means, np.stack(covariances))

    def log_likelihood(self, x: FloatArray, mixture: IntArray) -> FloatArray:
        """Return log p(x_n) of the observed features of each record under its mixture.

        Args:
            x: Shape (N, D); NaN is missing and integrated out exactly.
            mixture: Which one, shape (N,), in [0, E).

        Returns:
            Shape (N,), nats; NaN for a record without any feature.

        Raises:
            ValueError: ``x`` does not have D columns.
        """
        result = log_sum_exp(self._gaussians.log_density(x, mixture) + self._log_weights[mixture])
        result[np.isnan(x).all(axis=1)] = np.nan
        return result


def full_covariances(mixture: Gmm) -> FloatArray:
    """Return the covariance of each component, shape (K, D, D), whatever shape the mixture keeps them in."""
    covariances, d = mixture.arrays()["covariances"], mixture.n_features
    if covariances.ndim == 2:
        return np.asarray(covariances[:, :, None] * np.eye(d))
    return np.array(np.broadcast_to(covariances, (mixture.n_components, d, d)))
