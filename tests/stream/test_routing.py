"""Tests for detector.stream.routing."""

from detector.batch import Source
from detector.stream.routing import split
from tests.stream.records import raw_records

A0, A1, B0 = Source("a", 0), Source("a", 1), Source("b", 0)
INPUT_OF = {"a": object(), "b": object()}


def test_poll_of_one_input_is_passed_on_as_it_is() -> None:
    raw = raw_records([b"1", b"2"], sources=[A0, A1], source=[0, 1])
    assert [(owner, part) for owner, part in split(raw, INPUT_OF)] == [(INPUT_OF["a"], raw)]


def test_mixed_poll_is_split_in_order_with_keys_and_offsets() -> None:
    raw = raw_records(
        [b"1", b"2", b"3", b"4"],
        sources=[A0, B0, A1],
        source=[0, 1, 2, 1],
        offset=[5, 6, 7, 8],
        keys=[b"k1", b"k2", b"k3", b"k4"],
    )
    parts = dict(split(raw, INPUT_OF))
    a, b = parts[INPUT_OF["a"]], parts[INPUT_OF["b"]]
    assert (a.value, a.offset.tolist(), a.keys(), a.key(1)) == ([b"1", b"3"], [5, 7], [b"k1", b"k3"], b"k3")
    assert (b.value, b.offset.tolist(), b.keys(), b.headers(0)) == ([b"2", b"4"], [6, 8], [b"k2", b"k4"], [])
    assert [a.sources[i] for i in a.source] == [A0, A1]
    assert len(a.timestamps_s()) == len(b.timestamps_s()) == 2


def test_input_without_records_in_the_poll_is_left_out() -> None:
    raw = raw_records([b"1"], sources=[A0, B0], source=[1])
    assert [owner for owner, _ in split(raw, INPUT_OF)] == [INPUT_OF["b"]]
