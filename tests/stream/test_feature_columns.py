"""Tests for detector.stream.feature_columns and category_numbers, through the codec that uses them."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.batch import Batch
from detector.models.vocabulary import category_code
from detector.stream import category_numbers
from detector.stream.category_numbers import CategoryNumbers
from detector.stream.codec_json import InputSchema, JsonCodec
from detector.stream.reasons import Reason
from tests.stream.poison import GOOD, MAX_RECORD_BYTES, POISON, record
from tests.stream.records import NOW_S, raw_records

SCHEMA = InputSchema(
    name="requests",
    features=(("latency", ("latency",)), ("method", ("http", "method")), ("cached", ("cached",))),
    categorical=frozenset({("http", "method")}),
    binary=frozenset({("cached",)}),
    max_record_bytes=MAX_RECORD_BYTES,
)
ALL_TEXT = InputSchema(
    name="requests",
    features=(("a", ("a",)), ("b", ("b",))),
    categorical=frozenset({("a",), ("b",)}),
)


def features(latency: Any = 0.5, method: Any = "GET", cached: Any = False) -> bytes:
    return record(features={"latency": latency, "http": {"method": method}, "cached": cached})


def decode(schema: InputSchema, *values: bytes | None) -> tuple[Batch, list[Reason]]:
    batch, rejected = JsonCodec(schema).decode(raw_records(values), NOW_S)
    return batch, [bad.reason for bad in rejected]


def texts(batch: Batch, j: int) -> list[str | None]:
    return [batch.category_texts.get(number) for number in batch.values[:, j].tolist()]


def test_texts_become_their_numbers_and_booleans_0_and_1() -> None:
    batch, rejected = decode(SCHEMA, features(), features(2, "POST", True), features(None, None, None))
    assert rejected == []
    np.testing.assert_array_equal(
        batch.values,
        [[0.5, category_code("GET"), 0.0], [2.0, category_code("POST"), 1.0], [np.nan, np.nan, np.nan]],
    )
    assert texts(batch, 1) == ["GET", "POST", None]


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (200, "200"),
        (200.0, "200"),
        (0.5, "0.5"),
        (True, "true"),
        (1, "1"),
        (-0.0, "0"),
        ("", None),
        ("ü", "ü"),
    ],
)
def test_categories_may_be_numbers_or_booleans_and_empty_text_is_missing(
    method: Any, text: str | None
) -> None:
    # Beside a text, and after the boolean that Python takes for the same key as 1.
    batch, _ = decode(SCHEMA, features(method=True), features(method=method), features(method="GET"))
    assert texts(batch, 1) == ["true", text, "GET"]
    assert np.isnan(batch.values[1, 1]) == (text is None)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (features(method={"name": "GET"}), Reason.WRONG_TYPE),
        (features(method=["GET"]), Reason.WRONG_TYPE),
        (features(latency="0.5"), Reason.WRONG_TYPE),
        (features(latency=True), Reason.WRONG_TYPE),
        (features(cached="true"), Reason.WRONG_TYPE),
        (features().replace(b'"GET"', b"1e999"), Reason.NOT_FINITE),
        (features().replace(b'"GET"', b"-Infinity"), Reason.NOT_FINITE),
        (features().replace(b'"GET"', rb'"\ud800"'), Reason.MALFORMED_JSON),
        (record(features=None), Reason.NO_FEATURES),
        (record(features=None, values=[1, "GET"]), Reason.WRONG_LENGTH),
        (record(features=None, values=["1", "GET", True]), Reason.WRONG_TYPE),
        (record(features=None, values=[True, "GET", True]), Reason.WRONG_TYPE),
        (record(features=None, values=[1, "GET", "yes"]), Reason.WRONG_TYPE),
        (record(features=None, values=[1, {}, True]), Reason.WRONG_TYPE),
    ],
)
def test_bad_record_is_rejected_alone(value: bytes, reason: Reason) -> None:
    batch, rejected = decode(SCHEMA, features(method="PUT"), value, features(method="GET"))
    assert rejected == [reason]
    assert texts(batch, 1) == ["PUT", "GET"]
    lists = record(features=None, values=[1, "PUT", True])
    batch, rejected = decode(SCHEMA, lists, value, lists)
    assert rejected == [reason]
    assert texts(batch, 1) == ["PUT", "PUT"]


def test_bad_records_of_every_kind_are_rejected_as_where_all_features_are_numbers() -> None:
    schema = replace(
        ALL_TEXT, features=(*ALL_TEXT.features, ("cpu", ("cpu",))), max_record_bytes=MAX_RECORD_BYTES
    )
    same = {Reason.WRONG_TYPE, Reason.WRONG_LENGTH, Reason.NOT_FINITE}
    for value, reason in POISON:
        if reason not in same:
            batch, rejected = decode(schema, GOOD, value, GOOD)
            assert (rejected, len(batch)) == ([reason], 2)


def test_lists_are_read_in_the_order_of_the_features() -> None:
    rows = [[1, "GET", True], [None, 7, 0], [2.5, None, None]]
    batch, rejected = decode(SCHEMA, *(record(features=None, values=row) for row in rows))
    assert rejected == []
    expected = [[1.0, category_code("GET"), 1.0], [np.nan, category_code("7"), 0.0], [2.5, np.nan, np.nan]]
    np.testing.assert_array_equal(batch.values, expected)
    # Next to an object they are read one by one.
    batch, _ = decode(SCHEMA, features(), *(record(features=None, values=row) for row in rows))
    np.testing.assert_array_equal(batch.values[1:], expected)


def test_flags_in_lists_are_told_from_numbers_without_any_text() -> None:
    schema = replace(SCHEMA, features=(("a", ("a",)), ("b", ("b",))), binary=frozenset({("b",)}))
    batch, rejected = decode(
        schema, record(features=None, values=[1, True]), record(features=None, values=[True, 1])
    )
    assert (batch.values.tolist(), rejected) == ([[1.0, 1.0]], [Reason.WRONG_TYPE])


def test_null_on_the_way_is_missing_and_no_object_is_no_features() -> None:
    batch, rejected = decode(
        SCHEMA, record(features={"http": None, "latency": 1}), record(features=None), features()
    )
    assert rejected == [Reason.NO_FEATURES]
    np.testing.assert_array_equal(batch.values, [[1.0, np.nan, np.nan], [0.5, category_code("GET"), 0.0]])


def test_all_features_may_be_texts() -> None:
    batch, rejected = decode(
        ALL_TEXT, record(features={"a": "x", "b": "y"}), record(features={}), record(features=None)
    )
    assert rejected == [Reason.NO_FEATURES]
    assert [texts(batch, 0), texts(batch, 1)] == [["x", None], ["y", None]]
    assert decode(ALL_TEXT)[0].values.shape == (0, 2)


def test_what_was_seen_before_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(category_numbers, "_MOST_TEXTS", 10)
    codec = JsonCodec(ALL_TEXT)
    for start in range(0, 60, 6):
        names = [f"n{i % 40}" for i in range(start, start + 6)]
        polled = [
            json.dumps(json.loads(GOOD) | {"features": {"a": name, "b": "b"}}).encode() for name in names
        ]
        batch, _ = codec.decode(raw_records(polled), NOW_S)
        assert batch.values[:, 0].tolist() == [category_code(name) for name in names]
        assert texts(batch, 0) == names


def test_memory_of_texts_is_bounded() -> None:
    numbers = CategoryNumbers()
    for start in range(0, 100_000, 1000):
        numbers.of([f"request-{i}" for i in range(start, start + 1000)])
        assert len(numbers.texts()) <= 17_384


def test_a_long_text_is_one_with_those_that_begin_like_it_and_is_shown_cut_short() -> None:
    long = "é" * 300
    batch, _ = decode(ALL_TEXT, record(features={"a": long, "b": long + "?"}))
    assert batch.values[0, 0] == batch.values[0, 1] == category_code(long)
    assert texts(batch, 0) == ["é" * 256]
