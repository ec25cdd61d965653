"""Tests for detector.models.log_space."""

import numpy as np
from scipy.special import logsumexp

from detector.models.log_space import log_sum_exp, normalise, posterior


def test_agrees_with_scipy_where_exponentials_overflow_or_vanish() -> None:
    rows = np.array([[1.0, 2.0, 3.0], [1e4, 1e4 - 1, 0.0], [-1e4, -1e4, -np.inf], [0.0, -800.0, -np.inf]])
    np.testing.assert_allclose(log_sum_exp(rows), logsumexp(rows, axis=1), rtol=1e-14)


def test_nothing_adds_up_to_nothing_and_nan_stays() -> None:
    assert np.isneginf(log_sum_exp(np.full((1, 3), -np.inf))).all()
    assert np.isnan(log_sum_exp(np.array([[np.nan, 0.0]]))).all()


def test_weights_sum_to_one_in_proportion() -> None:
    weights = normalise(np.log([[1.0, 3.0], [2e-300, 2e-300]]))
    np.testing.assert_allclose(weights, [[0.25, 0.75], [0.5, 0.5]], rtol=1e-12)


def test_a_record_that_no_cause_explains_leaves_what_was_believed() -> None:
    prior = np.log([0.2, 0.8])
    after = posterior(prior + np.array([[np.log(4.0), 0.0], [-np.inf, -np.inf], [-np.inf, 0.0]]), prior)
    np.testing.assert_allclose(after, [[0.5, 0.5], [0.2, 0.8], [0.0, 1.0]], rtol=1e-12)
