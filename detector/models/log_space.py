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
    # Terms as rows: numpy adds up a few long rows much faster than many short ones. One column more than
    # there are rows, because a single column would be added up in another order than one of many.
    n, n_terms = log_terms.shape
    terms = np.zeros((n_terms, n + 1))
    terms[:, :n] = log_terms.T
    largest = terms.max(axis=0)
    shift = np.where(np.isneginf(largest), 0.0, largest)
    terms -= shift
    np.exp(terms, out=terms)
    with np.errstate(divide="ignore"):
        return np.asarray((np.log(terms.sum(axis=0)) + shift)[:n])


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
