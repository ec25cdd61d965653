"""Tests for detector.training.naive_bayes_em."""

import numpy as np
import pytest

from detector.models.kinds import Kind
from detector.training.naive_bayes_em import (
    estimate,
    maximise,
    mean_log_likelihood,
    responsibilities,
    start,
)
from detector.training.naive_bayes_rows import FeatureKinds, Rows

pytest.importorskip("sklearn")

KINDS: tuple[Kind, ...] = ("continuous", "count", "categorical", "binary", "continuous")
DENSITIES = [("gaussian",), ("poisson",), ("categorical",), ("categorical",), ("histogram",)]


def drawn(n: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two regimes that differ in a feature of every kind, and the regimes."""
    rng = np.random.default_rng(seed)
    regime = (rng.random(n) < 0.4).astype(np.int64)
    category = np.where(regime == 0, rng.choice(3, n, p=[0.7, 0.2, 0.1]), rng.choice(3, n, p=[0.1, 0.1, 0.8]))
    columns = [
        rng.normal(size=n) + 2.0 * regime,
        rng.poisson(np.where(regime == 0, 3.0, 9.0)),
        category,
        rng.random(n) < np.where(regime == 0, 0.2, 0.7),
        rng.exponential(size=n) * np.where(regime == 0, 1.0, 3.0),
    ]
    return np.column_stack(columns).astype(float), regime


def rows_of(x: np.ndarray, regimes: np.ndarray) -> Rows:
    kinds = FeatureKinds.of(x, KINDS, [0, 0, 3, 0, 0])
    return Rows.of(x, np.nanstd(x, axis=0), regimes, kinds, DENSITIES)


@pytest.mark.parametrize("labelled", [0.0, 0.3])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_iterations_never_lower_the_likelihood(missing: float, labelled: float) -> None:
    x, regimes = drawn()
    rng = np.random.default_rng(2)
    x[rng.random(x.shape) < missing] = np.nan
    usable = ~np.isnan(x).all(axis=1)
    rows = rows_of(x[usable], np.where(rng.random(len(x)) < labelled, regimes, -1)[usable])
    shares = rng.dirichlet(np.ones(3), size=len(rows.x))
    means = []
    for _ in range(15):
        model = estimate(rows, rows.plainest, shares)
        means.append(mean_log_likelihood(rows, model))
        shares = responsibilities(rows, model)
    # Floors and prior rows are not part of what is maximised.
    assert np.diff(means).min() > -2e-3
    assert means[-1] > means[0] + 0.05


def test_labelled_rows_belong_to_their_regime_whatever_they_look_like() -> None:
    x, regimes = drawn()
    known = np.where(np.arange(len(x)) % 3 == 0, 1 - regimes, -1)
    rows = rows_of(x, known)
    shares = responsibilities(rows, estimate(rows, rows.plainest, np.eye(2)[regimes]))
    np.testing.assert_array_equal(shares[known >= 0], np.eye(2)[known[known >= 0]])
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)


def test_what_is_maximised_counts_the_label_of_a_labelled_row() -> None:
    x, regimes = drawn(50)
    known = np.where(np.arange(50) < 10, regimes, -1)
    rows = rows_of(x, known)
    model = estimate(rows, rows.plainest, np.eye(2)[regimes])
    by_hand = [
        model.log_joint(x[n : n + 1])[0, known[n]] if known[n] >= 0 else model.log_likelihood(x[n : n + 1])[0]
        for n in range(50)
    ]
    assert mean_log_likelihood(rows, model) == pytest.approx(np.mean(by_hand), rel=1e-12)


def test_without_labels_classes_of_mixed_features_are_found() -> None:
    x, regimes = drawn()
    shares = start(rows_of(x, np.full(len(x), -1)), 2, seed=0)
    agreement = np.mean(shares.argmax(axis=1) == regimes)
    assert max(agreement, 1.0 - agreement) > 0.9


def test_hidden_classes_start_where_known_regimes_explain_least() -> None:
    x, regimes = drawn()
    known = np.where((regimes == 0) & (np.arange(len(x)) % 2 == 0), 0, -1)
    rows = rows_of(x, known)
    model = maximise(rows, rows.plainest, start(rows, 2, seed=0))
    found = responsibilities(rows, model).argmax(axis=1)
    assert np.mean(found == regimes) > 0.9
