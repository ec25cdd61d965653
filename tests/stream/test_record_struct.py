"""Tests for detector.stream.record_struct."""

from typing import Any

import msgspec
import pytest

from detector.stream.record_struct import Path, PathError, attribute_path, column, struct_of

TYPES: dict[Path, Any] = {
    ("tags", "host"): str | None,
    ("tags", "deep", "er"): float | None,
    ("time",): float | None,
}


def test_reads_nested_paths_and_skips_everything_else() -> None:
    struct = struct_of(TYPES)
    record = msgspec.json.decode(
        b'{"x":[{}],"tags":{"host":"a","y":1,"deep":{"er":2,"z":3}},"time":4}', type=struct
    )
    assert [column([record], attribute_path(struct, path)) for path in TYPES] == [["a"], [2.0], [4.0]]


@pytest.mark.parametrize("value", [b"{}", b'{"tags":null}', b'{"tags":{}}', b'{"tags":{"deep":null}}'])
def test_what_is_absent_or_null_on_the_way_is_none(value: bytes) -> None:
    struct = struct_of(TYPES)
    records = [msgspec.json.decode(value, type=struct)] * 2
    for path in TYPES:
        assert column(records, attribute_path(struct, path)) == [None, None]


def test_required_node_tells_absent_from_empty() -> None:
    struct = struct_of({("a", "b", "c"): int | None}, frozenset({("a", "b")}))
    absent = msgspec.json.decode(b'{"a":{}}', type=struct)
    empty = msgspec.json.decode(b'{"a":{"b":{}}}', type=struct)
    where = attribute_path(struct, ("a", "b"))
    assert column([absent], where) == [None]
    assert column([empty], where) != [None]


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ({("tags",): str, ("tags", "host"): str}, "'tags' is used as a value and as an object"),
        ({("",): str}, "empty part"),
        ({(): str}, "empty part"),
        ({('a"b',): str}, "must not contain"),
    ],
)
def test_paths_that_cannot_be_read_are_refused(types: dict[Path, Any], message: str) -> None:
    with pytest.raises(PathError, match=message):
        struct_of(types)
