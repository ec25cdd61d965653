"""Tests for detector.training.newest_records."""

from collections import Counter

import numpy as np
import pytest

from detector.batch import Batch
from detector.training import newest_records
from detector.training.newest_records import NewestRecords
from tests.made import batch

RNG = np.random.default_rng(8)


def records(counts: dict[str, int]) -> Batch:
    """Records in no order, their value being their time."""
    entity = RNG.permutation([name for name, n in counts.items() for _ in range(n)]).tolist()
    time = RNG.permutation(np.arange(float(len(entity))))
    return batch(time[:, None], entity=entity, time=time)


def parts_of(whole: Batch, n: int) -> list[Batch]:
    return [
        batch(whole.values[i : i + n], entity=whole.entity[i : i + n], time=whole.time[i : i + n])
        for i in range(0, len(whole), n)
    ]


def kept_of(whole: Batch, most: int, part: int) -> Batch:
    newest = NewestRecords(most)
    for each in parts_of(whole, part):
        newest.add(each)
    assert newest.seen == len(whole)
    return newest.batch()


@pytest.mark.parametrize(
    ("counts", "most", "expected"),
    [
        ({"a": 50, "b": 50}, 100, {"a": 50, "b": 50}),
        ({"a": 50, "b": 50}, 60, {"a": 30, "b": 30}),
        ({"few": 5, "a": 100, "b": 200}, 45, {"few": 5, "a": 20, "b": 20}),
        ({"few": 5, "some": 12, "many": 500}, 100, {"few": 5, "some": 12, "many": 83}),
        (dict.fromkeys("abcdefgh", 10), 3, dict.fromkeys("abcdefgh", 1)),
    ],
)
def test_entities_keep_equally_many_and_none_loses_everything(
    counts: dict[str, int], most: int, expected: dict[str, int]
) -> None:
    assert Counter(kept_of(records(counts), most, 7).entity) == expected


@pytest.mark.parametrize("part", [1, 10, 1000])
def test_the_newest_are_kept_in_the_order_in_which_they_came_however_they_come(part: int) -> None:
    whole = records({"a": 100, "b": 300, "c": 20})
    kept = kept_of(whole, 120, part)
    for entity, n in {"a": 50, "b": 50, "c": 20}.items():
        of_entity = [t for t, name in zip(whole.time.tolist(), whole.entity, strict=True) if name == entity]
        threshold = sorted(of_entity)[-n]
        found = [t for t, name in zip(kept.time.tolist(), kept.entity, strict=True) if name == entity]
        assert found == [t for t in of_entity if t >= threshold]
    np.testing.assert_array_equal(kept.values[:, 0], kept.time)


def test_no_more_is_held_than_half_as_much_again(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    concatenated = newest_records.concatenated

    def watched(batches: list[Batch]) -> Batch:
        whole = concatenated(batches)
        held.append(len(whole))
        return whole

    monkeypatch.setattr(newest_records, "concatenated", watched)
    assert len(kept_of(records({"a": 3000, "b": 3000}), 100, 10)) == 100
    assert max(held) <= 160
