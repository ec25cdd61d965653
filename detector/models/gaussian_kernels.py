"""Log densities of K Gaussians over tiles of records, one kernel per shape of the covariances.

With W the inverse of a covariance's Cholesky factor and y = W (x - mean), log N(x) = -|y|^2 / 2 + log det W -
m/2 log(2 pi). The W of K full covariances are stacked, so one matrix product whitens a record under all of
them. Where all Gaussians share W, or all W are diagonal, the square is multiplied out around a common centre
c, |y - o_k|^2 = |y|^2 - 2 o_k y + |o_k|^2, and one small matrix product gives all K of them. That loses as
many digits as |o_k|^2 has; ``is_near`` says whether those can be spared.
"""

import numpy as np

from detector.batch import FloatArray
from detector.models.tiles import Kernel

LOG_2PI = float(np.log(2.0 * np.pi))
# Squared distance from the common centre, in standard deviations: costs 4 of 16 digits of a nat.
_FARTHEST_SQUARED = 1e4


def is_near(offsets: FloatArray) -> bool:
    """Whether squares may be multiplied out; ``offsets`` are whitened means from their centre, (K, m)."""
    return bool((offsets**2).sum(axis=1).max() <= _FARTHEST_SQUARED)


def full_kernel(whiten: FloatArray, means: FloatArray) -> Kernel:
    """Return a kernel from records, shape (B, m, T), to log densities, (B, K, T).

    Args:
        whiten: The W of each Gaussian, shape (K, m, m).
        means: Shape (K, m).
    """
    k, m = means.shape
    # Row i * K + k is row i of W_k, so that the sum over i runs along memory.
    stacked = np.ascontiguousarray(whiten.transpose(1, 0, 2).reshape(m * k, m))
    offset = np.ascontiguousarray(np.einsum("kij,kj->ik", whiten, means)).reshape(m * k, 1)
    log_norm = _log_norm(np.log(np.diagonal(whiten, axis1=1, axis2=2)))

    def kernel(columns: FloatArray) -> FloatArray:
        y = np.matmul(stacked, columns)
        y -= offset
        return _from_whitened(y.reshape(len(y), m, k, y.shape[2]), log_norm)

    return kernel


def shared_kernel(whiten: FloatArray, means: FloatArray) -> Kernel:
    """As ``full_kernel`` for Gaussians that share one W, shape (m, m)."""
    offset = means @ whiten.T
    centre = offset.mean(axis=0)
    log_norm = np.repeat(_log_norm(np.log(np.diagonal(whiten))[None]), len(means))
    if not is_near(offset - centre):

        def kernel_of_differences(columns: FloatArray) -> FloatArray:
            return _from_whitened(np.matmul(whiten, columns)[:, :, None] - offset.T[:, :, None], log_norm)

        return kernel_of_differences

    form, constant = _multiplied_out(np.ones_like(means), offset - centre, log_norm)

    def kernel(columns: FloatArray) -> FloatArray:
        y = np.matmul(whiten, columns)
        y -= centre[:, None]
        return _apply_form(form, constant, y)

    return kernel


def diagonal_kernel(precision: FloatArray, means: FloatArray) -> Kernel:
    """As ``full_kernel`` for independent features.

    Args:
        precision: 1 / variance, shape (K, m).
        means: Shape (K, m).
    """
    centre, std_inverse = means.mean(axis=0), np.sqrt(precision)
    log_norm = _log_norm(0.5 * np.log(precision))
    if is_near((means - centre) * std_inverse):
        form, constant = _multiplied_out(precision, means - centre, log_norm)

        def kernel(columns: FloatArray) -> FloatArray:
            columns -= centre[:, None]
            return _apply_form(form, constant, columns)

        return kernel

    scale, offset = std_inverse.T[:, :, None], (means * std_inverse).T[:, :, None]

    def kernel_of_differences(columns: FloatArray) -> FloatArray:
        y = columns[:, :, None] * scale
        y -= offset
        return _from_whitened(y, log_norm)

    return kernel_of_differences


def incomplete_diagonal_kernel(precision: FloatArray, means: FloatArray) -> Kernel:
    """As ``diagonal_kernel`` for any pattern of missing features, where the means are near.

    Its columns are the records with any number in place of what is missing, then 1 for each observed
    feature and 0 for each missing one, shape (B, 2 m, T).
    """
    m, centre = means.shape[1], means.mean(axis=0)
    offset = means - centre
    per_feature = 0.5 * (np.log(precision) - LOG_2PI - precision * offset**2)
    form = np.hstack([-0.5 * precision, precision * offset, per_feature])

    def kernel(columns: FloatArray) -> FloatArray:
        y, observed = columns[:, :m], columns[:, m:]
        y -= centre[:, None]
        y *= observed
        return np.asarray(np.matmul(form, np.concatenate([y * y, y, observed], axis=1)))

    return kernel


def mixture_kernel(kernel: Kernel, log_weights: FloatArray) -> Kernel:
    """Return a kernel to log(sum_k w_k N_k), shape (B, 1, T), from one to log densities.

    It gives NaN or -inf where a density is no finite number of nats; ``log_sum_exp`` takes over there.
    """

    def mixture(columns: FloatArray) -> FloatArray:
        joint = kernel(columns)
        joint += log_weights[:, None]
        largest = joint.max(axis=1, keepdims=True)
        joint -= largest
        np.exp(joint, out=joint)
        return np.asarray(np.log(np.add.reduce(joint, axis=1, keepdims=True)) + largest)

    return mixture


def _log_norm(log_diagonal: FloatArray) -> FloatArray:
    """Return the log density at each mean, shape (K,), from the logarithms of W's diagonals, (K, m)."""
    return np.asarray(log_diagonal.sum(axis=1) - 0.5 * log_diagonal.shape[1] * LOG_2PI)


def _from_whitened(y: FloatArray, log_norm: FloatArray) -> FloatArray:
    """Return log densities, shape (B, K, T), of whitened differences, (B, m, K, T), overwriting these."""
    y *= y
    squares = np.add.reduce(y, axis=1)
    squares *= -0.5
    squares += log_norm[:, None]
    return np.asarray(squares)


def _multiplied_out(
    precision: FloatArray, offset: FloatArray, log_norm: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return F, shape (K, 2 m), and c, (K, 1): F (y^2, y) + c are the log densities of y."""
    form = np.hstack([-0.5 * precision, precision * offset])
    return form, (log_norm - 0.5 * (precision * offset**2).sum(axis=1))[:, None]


def _apply_form(form: FloatArray, constant: FloatArray, y: FloatArray) -> FloatArray:
    result = np.matmul(form, np.concatenate([y * y, y], axis=1))
    result += constant
    return np.asarray(result)
