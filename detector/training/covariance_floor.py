"""A least variance in every direction, so that no Gaussian collapses onto repeated values."""

import numpy as np

from detector.batch import FloatArray


def floor_covariances(covariances: FloatArray, floor: float) -> FloatArray:
    """Return covariances with no variance below ``floor`` in any direction.

    Args:
        covariances: Shape (K, D, D), or variances of shape (K, D) for diagonal covariances.
        floor: Least variance.
    """
    if covariances.ndim == 2:
        return np.maximum(covariances, floor)
    values, vectors = np.linalg.eigh(0.5 * (covariances + covariances.swapaxes(1, 2)))
    floored = (vectors * np.maximum(values, floor)[:, None, :]) @ vectors.swapaxes(1, 2)
    return np.asarray(0.5 * (floored + floored.swapaxes(1, 2)))
