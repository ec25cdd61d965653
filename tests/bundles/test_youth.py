"""Tests for detector.bundles.youth: what counts as the records of an entity."""

import numpy as np
import pytest

from detector.bundles.youth import enough_rows, records_of_an_entity, youth
from detector.scoring.time_scale import TimeScale
from detector.training.job import TrainingPlan, train
from tests.made import batch


@pytest.mark.parametrize(
    ("counts", "usual"),
    [
        ([], 0),
        ([0, 0], 0),
        ([7], 7),
        ([500, 500, 500], 500),
        # Three hosts, and thirty containers that came and went.
        ([480, 500, 510, *[4] * 30], 500),
        ([900, *[1] * 2000], 1),
    ],
)
def test_half_of_all_records_are_of_entities_with_as_many(counts: list[int], usual: int) -> None:
    assert records_of_an_entity(np.array(counts, dtype=np.int64)) == usual


@pytest.mark.parametrize(
    ("entities", "features", "each"),
    [
        (1, 1, 2000),
        (3, 1, 667),
        (6, 1, 334),
        (7, 1, 300),
        (1000, 1, 300),
        (1, 2, 1000),
        (3, 9, 334),
        (4, 2, 300),
    ],
)
def test_entities_share_what_they_show_of_rare_surprise(entities: int, features: int, each: int) -> None:
    assert enough_rows(entities, features) == each


@pytest.mark.parametrize(("interval_s", "called"), [(1.0, "short of records: "), (60.0, "young: ")])
def test_young_is_only_what_goes_on_learning(interval_s: float, called: str) -> None:
    values = np.random.default_rng(0).normal(size=(900, 2))
    plan = TrainingPlan("hosts", "gmm", options={"n_components": 1}, time_scale=TimeScale(0.3))
    said = youth(train(batch(values, time=interval_s * np.arange(900.0)), plan, 1e9))
    assert said is not None
    assert said.startswith(f"{called}270 records of an entity")
    assert "730 too few to know how rare large surprises are; " in said


@pytest.mark.parametrize(("features", "learns"), [(1, True), (2, False)])
def test_a_thousand_held_out_records_are_enough_of_several_features(features: int, learns: bool) -> None:
    values = np.random.default_rng(0).normal(size=(3600, features))
    plan = TrainingPlan("hosts", "gmm", options={"n_components": 1}, time_scale=TimeScale(0.3))
    bundle = train(batch(values, time=60.0 * np.arange(3600.0)), plan, 1e9)
    assert bundle.model.learns == learns
    assert (youth(bundle) is None) == (not learns)
