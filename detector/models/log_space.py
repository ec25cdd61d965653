"""Sums of probabilities that are kept as logarithms."""

import numpy as np

from detector.batch import FloatArray


def log_sum_exp(log_terms: FloatArray) -> FloatArray:
    """Return log(sum(exp(row))) of each row, without overflow.

    Args:
        log_terms: Shape (N, K), nats.

    Returns:
        Shape (N,); ``-inf`` for a row of ``-inf``, NaN for a row with a NaN.
    """
    largest = log_terms.max(axis=1)
    shift = np.where(np.isneginf(largest), 0.0, largest)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(log_terms - shift[:, None]).sum(axis=1)) + shift)


def normalise(log_weights: FloatArray) -> FloatArray:
    """Return rows proportional to exp(row) that sum to one.

    Args:
        log_weights: Shape (N, K), nats; no row all ``-inf``.

    Returns:
        Shape (N, K).
    """
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def posterior(log_joint: FloatArray, log_prior: FloatArray) -> FloatArray:
    """Return the distribution of each record's hidden cause once the record is seen.

    Args:
        log_joint: log p(record, cause), shape (N, K), nats.
        log_prior: log p(cause), shape (K,), nats.

    Returns:
        Shape (N, K), rows summing to one; the prior where no cause explains the record at all.
    """
    unexplained = np.isneginf(log_joint.max(axis=1))
    return normalise(np.where(unexplained[:, None], log_prior, log_joint))
