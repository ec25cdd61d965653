"""Tests for detector.training.fit_entities."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.models.contract import Family
from detector.models.entity_families import EntityFamilies
from detector.models.gmm import Gmm
from detector.models.hmm import Hmm
from detector.training.fit_entities import fit_entities, fit_own, ways_to_fit, with_states
from detector.training.fit_family import fit_alike
from detector.training.fitting import Fitting
from detector.training.plan import TrainingPlan
from tests.made import fitting
from tests.models.families_by_hand import random_gmm, random_hmm

# Between two entities and a third that is like the pooled model itself.
POOLED = Gmm(np.ones(1), np.zeros((1, 2)), 4.0 * np.eye(2)[None])


def moments(entity: Fitting) -> Family:
    x = entity.x
    if len(x) < 50:
        raise ValueError("too few rows")
    return Gmm(np.ones(1), x.mean(axis=0)[None], np.cov(x.T)[None])


def middle(entity: Fitting) -> Family:
    return Gmm(np.ones(1), np.median(entity.x, axis=0)[None], np.eye(2)[None])


def rows(shift: float, n: int, spread: float = 1.0) -> FloatArray:
    return np.random.default_rng(0).normal(size=(n, 2)) * spread + shift


ENTITIES = [rows(-2.0, 200), rows(0.0, 300, 2.0), rows(2.0, 250), rows(2.0, 60), rows(2.0, 400)]
X, LENGTHS = np.vstack(ENTITIES), [len(x) for x in ENTITIES]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_entity_has_its_own_family_where_that_predicts_its_newest_rows_better(jobs: int) -> None:
    told: list[tuple[str, int, int]] = []
    # The last one has too few records for coefficients of its own, so the pooled model scores it.
    families = fit_entities(
        POOLED,
        [moments],
        fitting(X, *LENGTHS),
        np.arange(5),
        5,
        jobs=jobs,
        progress=lambda what, done, total: told.append((what, done, total)),
    )
    assert families is not None
    assert told == [("fitting entities", done, 4) for done in (1, 2, 3, 4)]
    np.testing.assert_array_equal(families.own(), [0, 2])
    for model, entity in ((0, 0), (2, 2)):
        np.testing.assert_array_equal(families.of(model).arrays()["means"][0], ENTITIES[entity].mean(axis=0))
    assert families.of(1) is families.of(3) is families.of(4) is POOLED


def test_no_entity_with_a_family_of_its_own_needs_no_arrays() -> None:
    assert fit_entities(POOLED, [moments], fitting(ENTITIES[1]), np.zeros(1, dtype=np.int64), 2) is None


def test_what_it_predicts_worse_later_is_not_its_own() -> None:
    x = rows(-2.0, 200)
    x[160:] += 5.0
    assert fit_own(POOLED, [moments], fitting(x)).family is None


def test_runs_of_an_entity_are_not_joined() -> None:
    """What came before the newest fifth of each run judges that fifth."""
    x = rows(-2.0, 200)
    x[80:100] += 5.0
    assert fit_own(POOLED, [moments], fitting(x)).family is not None
    broken = replace(fitting(x), run=np.repeat([0, 1], 100))
    assert fit_own(POOLED, [moments], broken).family is None
    # Records labelled anomalous, which some families get to see, do not count.
    labelled = replace(broken, anomalous=np.repeat([False, True, False], [80, 20, 100]))
    assert fit_own(POOLED, [middle], labelled).family is not None
    assert fit_own(POOLED, [middle], broken).family is None


def test_a_family_of_another_make_cannot_be_stacked() -> None:
    assert fit_own(random_gmm(2, 2), [lambda entity: FakeKernel()], fitting(rows(-2.0, 200))).family is None


def test_entities_may_correlate_features_that_the_fleet_does_not() -> None:
    """One needs full covariances, one does not; stacked they are of one shape, and the densities the same."""
    pooled = Gmm(np.ones(1), np.zeros((1, 2)), np.ones((1, 2)))
    correlated = rows(0.0, 300) @ np.array([[1.0, 0.9], [0.0, 0.4]])
    shifted = rows(3.0, 300)
    ways = ways_to_fit(pooled, moments, any_covariance=True)
    plain = fit_own(pooled, ways, fitting(shifted)).family
    assert isinstance(plain, Gmm)
    assert plain.covariance == "diagonal"
    families = fit_entities(
        pooled,
        ways,
        fitting(np.vstack([correlated, shifted]), 300, 300),
        np.arange(2),
        3,
    )
    assert families is not None
    assert [families.of(m).arrays()["covariances"].shape for m in range(3)] == [(1, 2, 2), (1, 2, 2), (1, 2)]
    own = families.of(1)
    assert isinstance(own, Gmm)
    np.testing.assert_allclose(own.log_likelihood(shifted), plain.log_likelihood(shifted))
    alone = ways_to_fit(pooled, moments, any_covariance=False)
    assert len(alone) == 1


def test_states_that_are_repeated_change_no_density() -> None:
    few = random_hmm(3, 2, diagonal=True)
    many = with_states(few, 8)
    x, gap_s, lengths = few.sample(300, np.random.default_rng(0)), np.full(300, np.nan), np.array([300])
    of_few, of_many = (hmm.scan(hmm.initial_state(1), x, gap_s, lengths)[1] for hmm in (few, many))
    np.testing.assert_allclose(of_many, of_few)
    beliefs = many.beliefs(many.initial_state(1), x, gap_s, lengths)
    assert (beliefs.argmax(axis=1) < 3).all()


def test_few_rows_are_enough_for_fewer_states(caplog: pytest.LogCaptureFixture) -> None:
    """Of one state with correlated features; the eight of the fleet have none, and too many parameters."""
    pooled = with_states(random_hmm(1, 2, diagonal=True, interval_s=1.0), 8)
    plan = TrainingPlan("d", "hmm")
    ways = ways_to_fit(pooled, partial(fit_alike, plan, pooled), any_covariance=True)
    own, few = rows(5.0, 250) @ np.array([[1.0, 1.0], [0.0, 0.05]]), rows(5.0, 5)
    with caplog.at_level("INFO"):
        families = fit_entities(
            pooled, ways, fitting(np.vstack([own, few, own]), 250, 5, 250), np.array([0, 1, 2]), 3
        )
    assert families is not None
    np.testing.assert_array_equal(families.own(), [0])
    assert isinstance(families.of(0), Hmm)
    assert families.of(0).state_size == pooled.state_size
    assert families.of(0).arrays()["covariances"].shape == (8, 2, 2)
    again = EntityFamilies.from_arrays(families.arrays(), pooled).of(0)
    np.testing.assert_array_equal(again.arrays()["covariances"], families.of(0).arrays()["covariances"])
    assert "1 of 3 entities have a hmm of their own; 1 have too few records for a scale" in caplog.text
    assert "1 for such a model (a hidden Markov model" in caplog.text


class FakeKernel(Gmm):
    """Has an array that the pooled family lacks."""

    def __init__(self) -> None:
        super().__init__(np.ones(1), np.zeros((1, 2)), np.eye(2)[None])

    def arrays(self) -> dict[str, FloatArray]:
        return super().arrays() | {"points": np.zeros(3)}
