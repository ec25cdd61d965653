"""Tests for detector.stream.codec_json."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.stream.codec_json import InputSchema, JsonCodec
from detector.stream.reasons import Reason
from detector.stream.record_struct import PathError
from tests.stream.poison import GOOD, MAX_RECORD_BYTES, POISON, TIME, record
from tests.stream.records import NOW_S, raw_records

SCHEMA = InputSchema(
    name="hosts",
    features=(("cpu", ("cpu",)), ("memory", ("memory",)), ("rps", ("requests_per_s",))),
    labels=(("team", ("team",)),),
    max_record_bytes=MAX_RECORD_BYTES,
)


def decode_one(value: bytes | None, schema: InputSchema = SCHEMA, **raw: Any) -> Any:
    """Return the only row, as (entity, time, values, labels), or its reason."""
    batch, rejected = JsonCodec(schema).decode(raw_records([value], **raw), NOW_S)
    if rejected:
        assert len(batch) == 0
        return rejected[0].reason
    return (
        batch.entity[0],
        batch.time[0],
        batch.values[0].tolist(),
        {k: v[0] for k, v in batch.labels.items()},
    )


def values_of(value: bytes, schema: InputSchema = SCHEMA) -> Any:
    answer = decode_one(value, schema)
    return [None if math.isnan(x) else x for x in answer[2]] if isinstance(answer, tuple) else answer


def test_reads_the_native_form() -> None:
    entity, time, values, labels = decode_one(GOOD)
    assert (entity, time, labels) == ("web-17", TIME, {"team": None})
    np.testing.assert_array_equal(values, [0.31, np.nan, 120.5])


@pytest.mark.parametrize(
    ("value", "values"),
    [
        (record(features=None, values=[1, 2.5, None]), [1.0, 2.5, None]),
        (record(features={"cpu": 1}, values=[7, 8, 9]), [1.0, None, None]),
        (record(features={"cpu": 1}, values=[7]), [1.0, None, None]),
        (record(features={}), [None, None, None]),
        (record(features={"Cpu": 1.0, "rps": 2.0}), [None, None, None]),
        (record(features={"cpu": 5e-324, "memory": -0.0, "requests_per_s": 2**64}), [5e-324, -0.0, 2.0**64]),
        (GOOD.replace(b"0.31", b"NaN"), [None, None, 120.5]),
        (GOOD.replace(b'"features"', b'"junk":NaN,"features"'), [0.31, None, 120.5]),
        (record(features=None, values=[1, 2, 3]).replace(b"[1, 2, 3]", b"[NaN, 2, 3]"), [None, 2.0, 3.0]),
        (record(junk={"deep": [1, "x", None]}), [0.31, None, 120.5]),
        (GOOD.replace(b'"cpu":0.31', b'"cpu":1,"cpu":2'), [2.0, None, 120.5]),
    ],
)
def test_features_come_as_an_object_or_a_list_and_absent_is_missing(value: bytes, values: Any) -> None:
    assert values_of(value) == values


@pytest.mark.parametrize(("value", "reason"), [*POISON, (record(time=NOW_S + 601), Reason.TIME_OUT_OF_RANGE)])
def test_bad_record_is_rejected_with_its_reason(value: bytes | None, reason: Reason) -> None:
    assert decode_one(value) == reason


def test_good_neighbours_of_every_bad_record_are_decoded() -> None:
    values: list[bytes | None] = [record(entity="first")]
    for i, (bad, _) in enumerate(POISON):
        values += [bad, record(entity=f"good-{i}", time=TIME + i)]
    offset = [100 + 3 * i for i in range(len(values))]
    batch, rejected = JsonCodec(SCHEMA).decode(raw_records(values, offset=offset), NOW_S)
    assert [(bad.index, bad.reason) for bad in rejected] == [
        (1 + 2 * i, reason) for i, (_, reason) in enumerate(POISON)
    ]
    assert batch.entity == ["first", *(f"good-{i}" for i in range(len(POISON)))]
    assert batch.offset.tolist() == offset[::2]
    assert batch.time.tolist() == [TIME, *(TIME + i for i in range(len(POISON)))]
    assert batch.values[:, 0].tolist() == [0.31] * len(batch)


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (TIME, TIME),
        (TIME + 0.5, TIME + 0.5),
        (TIME * 1000 + 250, TIME + 0.25),
        ("2025-11-20T15:00:00Z", TIME),
        ("2025-11-20T16:00:00.5+01:00", TIME + 0.5),
        ("2025-11-20T15:00:00", TIME),
        ("2000-01-01T00:00:00Z", 946_684_800),
        (NOW_S + 600, NOW_S + 600),
    ],
)
def test_times_are_epoch_numbers_or_rfc_3339(time: Any, seconds: float) -> None:
    assert decode_one(record(time=time))[1] == seconds


@pytest.mark.parametrize(
    ("entity", "text"),
    [("pump 07", "pump 07"), (17, "17"), (1.5, "1.5"), ("a|b", "a|b"), ("ü" * 256, "ü" * 256)],
)
def test_entity_is_text_or_a_number(entity: Any, text: str) -> None:
    assert decode_one(record(entity=entity))[0] == text


def test_entity_joined_from_several_nested_fields() -> None:
    schema = replace(SCHEMA, entity=(("tags", "host"), ("disk",)), entity_separator="/")
    assert decode_one(record(tags={"host": "a"}, disk=3), schema)[0] == "a/3"
    for fields in ({"tags": {"host": "a"}}, {"disk": 3}, {"tags": {"host": ""}, "disk": 3}, {"disk": ""}):
        assert decode_one(record(**fields), schema) == Reason.NO_ENTITY


def test_entity_from_the_kafka_key() -> None:
    schema = replace(SCHEMA, entity="@key")
    assert decode_one(record(entity=None), schema, keys=["pümp".encode()])[0] == "pümp"
    for key in (None, b"", b"\xff"):
        assert decode_one(GOOD, schema, keys=[key]) == Reason.NO_ENTITY
    batch, rejected = JsonCodec(schema).decode(
        raw_records([b"x", GOOD, GOOD], keys=[b"a", b"b", None]), NOW_S
    )
    assert batch.entity == ["b"]
    assert [bad.index for bad in rejected] == [0, 2]


def test_time_from_the_kafka_record() -> None:
    schema = replace(SCHEMA, time="@timestamp")
    assert decode_one(record(time="nonsense"), schema, timestamp_s=NOW_S - 5)[1] == NOW_S - 5
    assert decode_one(GOOD, schema, timestamp_s=np.nan) == Reason.NO_TIME
    assert decode_one(GOOD, schema, timestamp_s=NOW_S + 1e6) == Reason.TIME_OUT_OF_RANGE


@pytest.mark.parametrize(
    ("team", "text"),
    [("shop", "shop"), (7, "7"), (0.5, "0.5"), (True, "true"), (["a"], None), ({"a": 1}, None), (None, None)],
)
def test_labels_are_carried_as_text(team: Any, text: str | None) -> None:
    assert decode_one(record(team=team))[3] == {"team": text}


def test_a_label_may_repeat_the_entity() -> None:
    schema = replace(SCHEMA, labels=(("host", ("entity",)), ("team", ("team",))))
    assert decode_one(record(entity=3, team="shop"), schema)[3] == {"host": "3", "team": "shop"}


def test_features_may_be_nested_or_fields_of_the_record_itself() -> None:
    nested = replace(SCHEMA, features=(("user", ("cpu", "user")), ("memory", ("memory",))))
    assert values_of(record(features={"cpu": {"user": 1}, "memory": 2}), nested) == [1.0, 2.0]
    assert values_of(record(features={"cpu": None, "memory": 2}), nested) == [None, 2.0]
    assert values_of(record(features={"memory": 2}), nested) == [None, 2.0]
    assert values_of(record(features=None), nested) == Reason.NO_FEATURES
    flat = replace(SCHEMA, features_field=())
    assert values_of(record(features=None, cpu=1, memory=2), flat) == [1.0, 2.0, None]
    assert values_of(record(features=None, values=[1, 2, 3]), flat) == [None, None, None]
    deep = replace(SCHEMA, features_field=("payload", "fields"), values_field=None)
    assert values_of(record(payload={"fields": {"cpu": 1}}), deep) == [1.0, None, None]
    assert values_of(record(payload={}, values=[1, 2, 3]), deep) == Reason.NO_FEATURES


def test_one_field_may_be_two_features() -> None:
    schema = replace(SCHEMA, features=(("a", ("cpu",)), ("b", ("memory",)), ("c", ("cpu",))))
    assert values_of(record(features={"cpu": 1, "memory": 2}), schema) == [1.0, 2.0, 1.0]


def test_one_feature_is_a_column_too() -> None:
    schema = replace(SCHEMA, features=(("cpu", ("cpu",)),))
    batch, _ = JsonCodec(schema).decode(raw_records([GOOD, GOOD]), NOW_S)
    assert batch.values.tolist() == [[0.31], [0.31]]


def test_an_empty_poll_is_an_empty_batch() -> None:
    batch, rejected = JsonCodec(SCHEMA).decode(raw_records([]), NOW_S)
    assert (len(batch), batch.values.shape, rejected) == (0, (0, 3), [])


@pytest.mark.parametrize(
    "schema",
    [
        replace(SCHEMA, labels=(("when", ("time",)),)),
        replace(SCHEMA, features_field=(), features=(("e", ("entity",)),)),
        replace(SCHEMA, values_field=("features", "cpu")),
    ],
)
def test_a_field_wanted_for_two_purposes_is_refused(schema: InputSchema) -> None:
    with pytest.raises(PathError, match="it can only be one of them"):
        JsonCodec(schema)


json_numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**70), 2**70), st.none()
)
json_features = st.dictionaries(st.sampled_from(["cpu", "memory", "requests_per_s", "junk"]), json_numbers)
json_records = st.fixed_dictionaries(
    {
        "entity": st.one_of(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers()),
        "time": st.floats(946_684_800, NOW_S),
    },
    optional={"features": json_features, "values": st.lists(json_numbers, min_size=3, max_size=3)},
)


@settings(max_examples=60, deadline=None)
@given(st.lists(json_records, max_size=8))
def test_agrees_with_reading_record_by_record_by_hand(records: list[dict[str, Any]]) -> None:
    batch, rejected = JsonCodec(SCHEMA).decode(raw_records([json.dumps(r).encode() for r in records]), NOW_S)
    good = [r for r in records if "features" in r or "values" in r]
    assert len(rejected) == len(records) - len(good)
    assert batch.entity == [str(r["entity"]) for r in good]
    by_hand = [
        [r["features"].get(name) for name in ("cpu", "memory", "requests_per_s")]
        if "features" in r
        else r["values"]
        for r in good
    ]
    np.testing.assert_array_equal(batch.values, np.array(by_hand, dtype=float).reshape(-1, 3))
    np.testing.assert_array_equal(batch.time, [r["time"] for r in good])


@pytest.mark.parametrize("seed", range(4))
def test_every_mutation_is_decoded_or_rejected_and_the_batch_agrees_with_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    originals = [
        GOOD,
        record(features=None, values=[1.5, None, -3]),
        record(time="2026-11-20T15:00:00Z", team="a"),
    ]
    values: list[bytes | None] = []
    for _ in range(2_500):
        value = bytearray(originals[rng.integers(len(originals))])
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(value)))
            change = rng.integers(4)
            if change == 0:
                value[at] = rng.integers(256)
            elif change == 1:
                del value[at : at + int(rng.integers(1, 9))]
            elif change == 2:
                value[at:at] = rng.choice(
                    [b"9", b"e", b"-", b'"', b"{", b"]", b",", b"null", b"NaN", b"1e999"]
                )
            else:
                value[at:at] = value[: int(rng.integers(30))]
            value = value or bytearray(b" ")
        values.append(bytes(value))
    codec = JsonCodec(SCHEMA)
    batch, rejected = codec.decode(raw_records(values), NOW_S)
    assert sorted([*batch.offset.tolist(), *(bad.index for bad in rejected)]) == list(range(len(values)))
    assert 0 < len(rejected) < len(values)
    assert np.isfinite(batch.time).all()
    assert not np.isinf(batch.values).any()
    assert "".join(batch.entity).encode()
    where = dict(zip(batch.offset.tolist(), range(len(batch)), strict=True))
    reasons = {bad.index: bad.reason for bad in rejected}
    for i, mutated in enumerate(values):
        alone, bad = codec.decode(raw_records([mutated]), NOW_S)
        assert [b.reason for b in bad] == ([reasons[i]] if i in reasons else [])
        if not bad:
            np.testing.assert_array_equal(alone.values[0], batch.values[where[i]])
            assert alone.entity[0] == batch.entity[where[i]]
