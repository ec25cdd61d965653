"""Tests for detector.stream.entity_table."""

import numpy as np
import pytest

from detector.batch import Batch, Source
from detector.stream.entity_table import EntityTable

A, B = Source("t", 0), Source("t", 1)


def batch(*records: tuple[Source, str]) -> Batch:
    sources = tuple(dict.fromkeys(source for source, _ in records))
    n = len(records)
    return Batch(
        "input",
        ("x",),
        sources,
        np.array([sources.index(source) for source, _ in records], dtype=np.int64),
        np.arange(n),
        [entity for _, entity in records],
        np.zeros(n),
        np.zeros((n, 1)),
    )


def test_slots_are_stable_and_differ_between_entities() -> None:
    table = EntityTable()
    first = table.place(batch((A, "x"), (A, "y"), (A, "x")))
    again = table.place(batch((A, "y"), (A, "z"), (A, "x")))
    assert first[0] == first[2] == again[2]
    assert first[1] == again[0]
    assert len({first[0], first[1], again[1]}) == len(table) == 3
    assert table.take_newly_on_two_sources() == 0


def test_entity_on_two_sources_has_a_slot_for_each_and_is_reported_once() -> None:
    table = EntityTable()
    records = batch((A, "x"), (B, "x"), (A, "y"), (B, "x"), (A, "x"))
    slots = table.place(records)
    assert slots[0] == slots[4] != slots[1] == slots[3]
    np.testing.assert_array_equal(table.place(records), slots)
    assert [table.take_newly_on_two_sources() for _ in range(2)] == [1, 0]


@pytest.mark.parametrize("gone", [A, B])
def test_forgetting_a_source_frees_its_slots_alone_and_they_are_used_again(gone: Source) -> None:
    table = EntityTable()
    a, b_of_x, b = table.place(batch((A, "x"), (B, "x"), (B, "y"))).tolist()
    slots, entities = table.forget(gone)
    assert sorted(zip(slots.tolist(), entities, strict=True)) == (
        [(a, "x")] if gone == A else [(b_of_x, "x"), (b, "y")]
    )
    if gone == A:
        assert table.place(batch((B, "x"), (B, "y"))).tolist() == [b_of_x, b]
    else:
        assert table.place(batch((A, "x"))).tolist() == [a]
    assert table.place(batch((Source("t", 2), "new"))).tolist()[0] in slots.tolist()


def test_a_source_forgotten_twice_or_never_seen_has_nothing_to_forget() -> None:
    table = EntityTable()
    table.place(batch((A, "x")))
    assert table.forget(B)[1] == []
    assert table.forget(A)[1] == ["x"]
    assert table.forget(A)[1] == []


def test_forget_all_leaves_nothing() -> None:
    table = EntityTable()
    table.place(batch((A, "x"), (B, "x"), (B, "y")))
    slots, entities = table.forget_all()
    assert sorted(entities) == ["x", "x", "y"]
    assert sorted(slots.tolist()) == [0, 1, 2]
    assert len(table) == 0


def test_an_empty_batch_places_nobody() -> None:
    empty = Batch(
        "input", ("x",), (A,), np.zeros(0, np.int64), np.zeros(0, np.int64), [], np.zeros(0), np.zeros((0, 1))
    )
    assert EntityTable().place(empty).tolist() == []


def test_agrees_with_a_dictionary_over_a_long_history() -> None:
    rng = np.random.default_rng(5)
    sources = [Source("t", i) for i in range(4)]
    table = EntityTable()
    slot_of: dict[tuple[Source, str], int] = {}
    for _ in range(300):
        if rng.random() < 0.2:
            gone = sources[rng.integers(4)]
            slots, entities = table.forget(gone)
            by_hand = {entity: slot for (source, entity), slot in slot_of.items() if source == gone}
            assert dict(zip(entities, slots.tolist(), strict=True)) == by_hand
            slot_of = {key: slot for key, slot in slot_of.items() if key[0] != gone}
        records = [(sources[rng.integers(4)], f"e{rng.integers(3000)}") for _ in range(rng.integers(1, 60))]
        for key, slot in zip(records, table.place(batch(*records)).tolist(), strict=True):
            assert slot_of.setdefault(key, slot) == slot
        assert len(set(slot_of.values())) == len(slot_of) == len(table)


def test_slots_begin_at_0_again_once_nobody_is_known() -> None:
    table = EntityTable()
    table.place(batch(*((A, f"a{i}") for i in range(5)), *((B, f"b{i}") for i in range(5))))
    table.forget(A)
    table.forget(B)
    assert table.place(batch((B, "b1"), (B, "b0"), (A, "a1"))).tolist() == [0, 1, 2]
    assert len(table) == 3
