"""Tests for detector.training.training_rows."""

import numpy as np
import pytest

from detector.training.training_rows import TrainingRows, rows_in_order
from tests.made import batch


def ordered(n: int = 20, **labels: np.ndarray) -> TrainingRows:
    """Return records of a and b in turn, whose only value is their place."""
    return rows_in_order(batch(np.arange(float(n))[:, None], entity=["b", "a"] * (n // 2)), **labels)


def test_records_lie_entity_after_entity_in_time_order() -> None:
    rows = ordered()
    assert rows.names == ["a", "b"]
    assert rows.lengths.tolist() == [10, 10]
    assert rows.values.ravel().tolist() == [*range(1, 20, 2), *range(0, 20, 2)]
    assert rows.held_out.tolist() == ([False] * 7 + [True] * 3) * 2
    assert rows.position.tolist() == [*range(10), *range(10)]


def test_runs_break_where_records_are_anomalous_and_labels_move_with_their_records() -> None:
    anomalous, regime = np.zeros(20, dtype=bool), np.arange(20)
    anomalous[[1, 7, 9, 18]] = True
    rows = ordered(anomalous=anomalous, regime=regime).without_anomalous()
    assert rows.values.ravel().tolist() == [3, 5, 11, 13, 15, 17, 19, *range(0, 18, 2)]
    assert rows.lengths.tolist() == [2, 5, 9]
    assert rows.run_entity.tolist() == [0, 0, 1]
    assert rows.regime is not None
    assert rows.regime.tolist() == rows.values.ravel().tolist()


def test_marks_reach_as_many_records_as_asked_and_no_other_entity() -> None:
    anomalous = np.zeros(20, dtype=bool)
    anomalous[[3, 19]] = True
    rows = ordered(anomalous=anomalous)
    assert np.flatnonzero(rows.anomalous_or_after(0)).tolist() == [1, 9]
    assert np.flatnonzero(rows.anomalous_or_after(2)).tolist() == [1, 2, 3, 9]


def test_share_held_out_does_not_count_anomalous_records() -> None:
    anomalous = np.zeros(20, dtype=bool)
    anomalous[:10] = True
    rows = ordered(anomalous=anomalous).without_anomalous()
    assert rows.held_out.tolist() == ([False] * 3 + [True] * 2) * 2
    assert rows.to_fit().lengths.tolist() == [3, 3]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_runs_agree_with_walking_the_records(share: float) -> None:
    anomalous = np.random.default_rng(0).uniform(size=60) < share
    rows = ordered(60, anomalous=anomalous)
    by_hand: list[list[float]] = []
    for entity in range(2):
        broken = True
        for value, marked in zip(
            rows.values[rows.entity == entity, 0].tolist(),
            rows.anomalous[rows.entity == entity].tolist(),
            strict=True,
        ):
            if not marked:
                if broken:
                    by_hand.append([])
                by_hand[-1].append(value)
            broken = marked
    kept = rows.without_anomalous()
    assert kept.lengths.tolist() == [len(run) for run in by_hand]
    assert kept.values.ravel().tolist() == [value for run in by_hand for value in run]
