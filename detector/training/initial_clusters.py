"""Where expectation maximisation starts: clusters of the body of the rows, not of their outliers."""

import warnings
from dataclasses import dataclass

import numpy as np

from detector.batch import FloatArray

_BODY_STD = 10.0


@dataclass(frozen=True, slots=True)
class Clusters:
    """K clusters of rows with D features."""

    weights: FloatArray
    """Shape (K,), their shares of the rows."""
    means: FloatArray
    """Shape (K, D)."""
    covariances: FloatArray
    """Shape (K, D, D), the floor included."""


def initial_clusters(x: FloatArray, n_clusters: int, covariance_floor: float, seed: int) -> Clusters:
    """Cluster rows by k-means, values ten standard deviations from the median counting as that far.

    k-means minimises squares, so a few far values would take clusters away from all the others.

    Args:
        x: Shape (N, D), each feature on a scale of one.
        n_clusters: K.
        covariance_floor: Added to every variance.
        seed: Of the clustering.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    centre = np.median(x, axis=0)
    body = x.clip(centre - _BODY_STD, centre + _BODY_STD)
    with warnings.catch_warnings():
        # Fewer distinct rows than clusters: the clusters left over are empty.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = KMeans(n_clusters, n_init=1, random_state=seed).fit_predict(body)
    floor = covariance_floor * np.eye(x.shape[1])
    counts = np.maximum(1, np.bincount(labels, minlength=n_clusters))
    means, covariances = [], []
    for k in range(n_clusters):
        members = body[labels == k] if (labels == k).any() else body
        means.append(members.mean(axis=0))
        covariances.append(np.atleast_2d(np.cov(members.T, bias=True)) + floor)
    return Clusters(counts / counts.sum(), np.array(means), np.array(covariances))
