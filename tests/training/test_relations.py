"""Tests for detector.training.relations: what features tell about one another."""

from dataclasses import replace

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.training.plan import TrainingPlan
from detector.training.relations import nats_of_relations
from detector.training.train_member import prepare
from tests.made import batch

PLAN = TrainingPlan("hosts", "gmm", "none")
N = 6000


def nats(values: FloatArray, plan: TrainingPlan = PLAN) -> float:
    return nats_of_relations(prepare(batch(values), plan, None, None), plan)


def related(correlation: float, n: int = N, d: int = 2, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    common, own = rng.normal(size=(n, 1)), rng.normal(size=(n, d))
    return np.asarray(np.sqrt(correlation) * common + np.sqrt(1.0 - correlation) * own)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_two_bells_tell_their_mutual_information(correlation: float) -> None:
    assert nats(related(correlation)) == pytest.approx(-0.5 * np.log(1.0 - correlation**2), abs=0.05)


def test_units_do_not_matter() -> None:
    values = related(0.9)
    assert nats(values * [1e6, 1e-3] + [5.0, -3.0]) == pytest.approx(nats(values))


def test_behind_a_predictor_it_is_what_that_leaves_that_is_related() -> None:
    values = related(0.9)
    values[:, 1] += np.cumsum(related(0.0)[:, 0])
    assert nats(values, replace(PLAN, predictor="last")) > nats(values) + 0.1


def test_records_that_lack_features_tell_what_they_can() -> None:
    values = related(0.9)
    values[np.random.default_rng(1).random(values.shape) < 0.1] = np.nan
    assert nats(values) == pytest.approx(0.81 * -0.5 * np.log(1.0 - 0.81), abs=0.1)


def test_a_relation_that_no_longer_holds_tells_nothing() -> None:
    values = related(0.95)
    values[N // 2 :, 1] = related(0.95, seed=1)[N // 2 :, 1]
    assert nats(values) <= 0.0


def test_a_feature_that_strays_from_where_the_others_have_it_tells_nothing() -> None:
    values = related(0.9, d=4)
    assert nats(values) > 1.0
    values[:, 3] += np.linspace(0.0, 10.0, N)
    assert nats(values) == 0.0


def test_records_too_few_for_so_many_features_are_refused() -> None:
    with pytest.raises(ValueError, match="parameters"):
        nats(related(0.9, n=60, d=20))
