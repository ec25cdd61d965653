"""Tests for detector.training.topic_source."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from detector.batch import FloatArray, Source
from detector.stream.codec_json import InputSchema
from detector.stream.port import ClientSettings, Header, RawRecords
from detector.stream.reasons import Reason
from detector.training import topic_source
from detector.training.labels import LabelFields
from detector.training.sources import SourceError
from detector.training.topic_source import read_topic

SETTINGS = ClientSettings(client="kafka-python", bootstrap_servers=("127.0.0.1:1",))
SCHEMA = InputSchema(name="hosts", features=(("cpu", ("cpu",)),))


class NoEnvelope:
    def key(self, i: int) -> bytes | None:
        return None

    def keys(self) -> list[bytes | None]:
        return []

    def headers(self, i: int) -> list[Header]:
        return []

    def timestamps_s(self) -> FloatArray:
        return np.empty(0)


def poll(sources: tuple[Source, ...], source: list[int], offset: list[int], value: list[bytes]) -> RawRecords:
    return RawRecords(
        sources=sources,
        source=np.array(source),
        offset=np.array(offset),
        value=list(value),
        envelope=NoEnvelope(),
    )


def record(entity: str, cpu: float, time_s: int = 1_700_000_000) -> bytes:
    return f'{{"entity": "{entity}", "time": {time_s}, "features": {{"cpu": {cpu}}}}}'.encode()


def read_from(monkeypatch: pytest.MonkeyPatch, polls: list[RawRecords]) -> None:
    def read_range(*_: object) -> Iterator[RawRecords]:
        yield from polls

    monkeypatch.setattr(topic_source, "read_range", read_range)


def test_polls_become_one_batch_that_still_knows_each_rows_partition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = Source("hosts", 0), Source("hosts", 1)
    polls = [
        poll((second,), [0, 0], [5, 6], [record("a", 1), record("b", 2)]),
        poll((first, second), [0, 1], [9, 7], [record("c", 3), record("a", 4)]),
    ]
    read_from(monkeypatch, polls)
    batch, rejected = read_topic(SETTINGS, ["hosts"], SCHEMA, 0.0, 2e9, 1.8e9)
    assert batch.entity == ["a", "b", "c", "a"]
    assert batch.values[:, 0].tolist() == [1, 2, 3, 4]
    assert [batch.sources[i] for i in batch.source] == [second, second, first, second]
    assert batch.offset.tolist() == [5, 6, 9, 7]
    assert not rejected


def test_bad_records_are_left_out_and_counted_by_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source("hosts", 0)
    read_from(monkeypatch, [poll((source,), [0, 0, 0], [1, 2, 3], [b"{", record("a", 1), b"7"])])
    batch, rejected = read_topic(SETTINGS, ["hosts"], SCHEMA, 0.0, 2e9, 1.8e9)
    assert batch.offset.tolist() == [2]
    assert rejected == {Reason.MALFORMED_JSON: 1, Reason.NOT_AN_OBJECT: 1}


def test_the_range_is_one_of_event_times_whenever_they_were_written(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    # Written after the range, it belongs there: a day ago and only now, say. So there is no end.
    def read_range(_: object, topics: object, from_s: float) -> Iterator[RawRecords]:
        asked.append(from_s)
        values = [record("a", i, 1_700_000_000 + i) for i in range(6)]
        yield poll((Source("hosts", 0),), [0] * 6, list(range(6)), values)

    monkeypatch.setattr(topic_source, "read_range", read_range)
    first, end, now_s = 1.7e9 + 2, 1.7e9 + 4, 1.8e9
    batch, rejected = read_topic(SETTINGS, ["hosts"], SCHEMA, first, end, now_s)
    assert batch.time.tolist() == [first, first + 1]
    assert (batch.offset.tolist(), batch.entity) == ([2, 3], ["a", "a"])
    assert not rejected
    assert len(read_topic(SETTINGS, ["hosts"], SCHEMA, first, math.inf, now_s)[0]) == 4
    assert all(from_s < first for from_s in asked)
    said = r"a time from 2023-11-14T22:13:30Z until 2023-11-14T22:13:31Z \(found: 6 of other times\)"
    with pytest.raises(SourceError, match=said):
        read_topic(SETTINGS, ["hosts"], SCHEMA, 1.7e9 + 10, 1.7e9 + 11, now_s)


def test_range_without_a_usable_record_says_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    read_from(monkeypatch, [poll((Source("hosts", 0),), [0], [1], [b"{"])])
    with pytest.raises(SourceError, match=r"topics hosts: no usable record .*1 malformed_json"):
        read_topic(SETTINGS, ["hosts"], SCHEMA, 0.0, 2e9, 1.8e9)


def test_texts_of_all_polls_are_known_and_labels_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    source = (Source("hosts", 0),)
    texts = [(b"GET", b"0"), (b"PUT", b"1"), (b"GET", b"null")]
    value = b'{"entity": "a", "time": 1700000000, "features": {"method": "%b"}, "tags": {"incident": %b}}'
    polls = [poll(source, [0], [i], [value % each]) for i, each in enumerate(texts)]
    schema = InputSchema(
        name="hosts",
        features=(("method", ("method",)),),
        categorical=frozenset({("method",)}),
        labels=(("tags.incident", ("tags", "incident")),),
    )
    read_from(monkeypatch, polls)
    batch, _ = read_topic(SETTINGS, ["hosts"], schema, 0.0, 2e9, 1.8e9)
    assert [batch.category_texts[code] for code in batch.values[:, 0].tolist()] == ["GET", "PUT", "GET"]
    assert batch.labels == {"tags.incident": ["0", "1", None]}


def test_a_label_that_is_in_no_record_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    source = (Source("hosts", 0),)
    value = b'{"entity": "a", "time": 1700000000, "features": {"cpu": 1}, "tags": {"incident": 0}}'
    labels = (("tags.incident", ("tags", "incident")), ("incident", ("incident",)))
    schema = InputSchema(name="hosts", features=(("cpu", ("cpu",)),), labels=labels)
    read_from(monkeypatch, [poll(source, [0], [1], [value])])
    batch, _ = read_topic(SETTINGS, ["hosts"], schema, 0.0, 2e9, 1.8e9)
    assert LabelFields("tags.incident").silent(batch) == []
    assert LabelFields("incident", "tags.incident").silent(batch) == ["incident"]
