"""Tests for detector.training.fit_frequencies."""

import numpy as np
import pytest

from detector.models.discrete_columns import DiscreteColumns
from detector.models.vocabulary import Vocabulary
from detector.scoring.frequencies import ANY_OTHER, COUNT, SET
from detector.training.fit_frequencies import fit_frequencies

TEXTS = Vocabulary([f"t{i:02}" for i in range(30)])
DISCRETE = DiscreteColumns(("continuous", "categorical", "binary", "count"), (None, TEXTS, None, None))
RNG = np.random.default_rng(0)
N = 20_000


def rows(p: float, mean: float, n: int = N) -> np.ndarray:
    """A text that is the first one with probability p, the last but one never, else any; a flag; a count."""
    text = np.where(RNG.random(n) < p, 0, RNG.choice(np.r_[1:28, 29], n))
    flag, count = RNG.random(n) < p / 10, RNG.poisson(mean, n)
    return np.column_stack([RNG.normal(size=n), text, flag, count]).astype(float)


def test_shares_and_means_are_those_of_each_entity_and_of_all() -> None:
    z = np.vstack([rows(0.5, 2.0), rows(0.9, 0.2)])
    found = fit_frequencies(z, np.array([N, N]), np.arange(2), 3, DISCRETE, 0.05)
    assert found.feature.tolist() == [1] * 21 + [2, 3]
    assert found.category[[0, 20, 21, 22]].tolist() == [0, ANY_OTHER, SET, COUNT]
    for place, expected in ((0, [0.5, 0.9, 0.7]), (21, [0.05, 0.09, 0.07]), (22, [2.0, 0.2, 1.1])):
        assert found.usual[:, place] == pytest.approx(expected, rel=0.05)
    assert found.usual[:, :21].sum(axis=1) == pytest.approx(1.0, abs=0.001)
    assert found.dispersion[:2, [0, 21]] == pytest.approx(1.0, abs=0.1)


def test_the_commonest_texts_have_columns() -> None:
    z = np.vstack([rows(0.5, 2.0), np.column_stack([np.zeros(500), np.full(500, 28.0), np.zeros((500, 2))])])
    found = fit_frequencies(z, np.array([len(z)]), np.zeros(1, dtype=int), 2, DISCRETE, 0.05)
    assert {0, 28} < set(found.category[:20].tolist())


def test_an_entity_with_few_records_is_known_less_exactly_and_leans_on_all() -> None:
    z = np.vstack([rows(0.5, 2.0), rows(1.0, 2.0, 10)])
    found = fit_frequencies(z, np.array([N, 10]), np.arange(2), 3, DISCRETE, 0.05)
    assert 0.5 < found.usual[1, 0] < 0.7
    assert found.dispersion[1, 0] > 1.5 * found.dispersion[0, 0]


def test_where_entities_differ_a_new_one_may_do_so_too() -> None:
    alike = fit_frequencies(
        np.vstack([rows(0.5, 1.0)] * 2), np.array([N, N]), np.arange(2), 3, DISCRETE, 0.05
    )
    z = np.vstack([rows(0.2, 1.0), rows(0.8, 1.0)])
    unlike = fit_frequencies(z, np.array([N, N]), np.arange(2), 3, DISCRETE, 0.05)
    # The shares vary between entities with .09; an average of 39 records of which half are so, with .0064.
    assert unlike.dispersion[2, 0] == pytest.approx(1 + 0.09 / 0.0064, rel=0.1)
    assert alike.dispersion[2] == pytest.approx(1.0, abs=0.05)


def test_counts_that_scatter_more_than_poisson_are_known_less_exactly_whatever_errors_there_are() -> None:
    z = rows(0.5, 2.0)
    z[:, 3] = RNG.negative_binomial(1.0, 1.0 / 3.0, N)
    wild = z.copy()
    wild[:3, 3] = 1e12
    for own in (z, wild):
        found = fit_frequencies(own, np.array([N]), np.zeros(1, dtype=int), 2, DISCRETE, 0.05)
        assert found.usual[0, 22] == pytest.approx(2.0, rel=0.05)
        assert found.dispersion[0, 22] == pytest.approx(3.0, rel=0.1)


def test_a_feature_that_is_seldom_there_counts_where_it_is() -> None:
    z = rows(0.5, 2.0)
    z[: N // 2, 1:] = np.nan
    found = fit_frequencies(z, np.array([N]), np.zeros(1, dtype=int), 2, DISCRETE, 0.05)
    assert found.usual[0, [0, 22]] == pytest.approx([0.5, 2.0], rel=0.05)


def test_what_comes_in_bursts_is_heard_less_whatever_incidents_there_are() -> None:
    z = rows(0.5, 2.0)
    stays = RNG.random(N) < 0.9
    for column in (1, 3):
        last_change = np.maximum.accumulate(np.where(stays, 0, np.arange(N)))
        z[:, column] = z[last_change, column]
    bursts = fit_frequencies(z, np.array([N]), np.zeros(1, dtype=int), 2, DISCRETE, 0.05).dispersion[0]
    assert (bursts[[0, 22]] > 4.0).all()
    assert bursts[21] == pytest.approx(1.0, abs=0.1)
    incident = rows(0.5, 2.0)
    incident[5000:5100, 2] = 1.0
    known = fit_frequencies(incident, np.array([N]), np.zeros(1, dtype=int), 2, DISCRETE, 0.05)
    assert known.dispersion[0, 21] < 1.5


def test_of_very_many_rows_some_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    z = np.vstack([rows(0.5, 2.0), rows(0.9, 0.2)])
    given = z, np.array([N, N]), np.arange(2), 3, DISCRETE, 0.05
    every = fit_frequencies(*given)
    monkeypatch.setattr("detector.training.fit_frequencies._MOST_VALUES", 23 * N)
    half = fit_frequencies(*given)
    assert (half.usual != every.usual).any()
    np.testing.assert_allclose(half.usual[:, [0, 21, 22]], every.usual[:, [0, 21, 22]], rtol=0.1)
    np.testing.assert_allclose(half.dispersion[:2], every.dispersion[:2], rtol=0.3)
