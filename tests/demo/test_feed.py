"""Tests for detector.demo.feed."""

from collections.abc import Sequence

import numpy as np
import pytest

from detector.batch import Batch, FloatArray, Source
from detector.demo.feed import MAX_UNANSWERED, Feed, encode
from detector.stream.codec_json import InputSchema, JsonCodec
from detector.stream.port import Header, RawRecords


class ListProducer:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes | None, bytes | None]] = []

    def find(self, topic: str) -> None: ...

    def send(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Sequence[Header]] | None = None,
    ) -> None:
        self.sent += [(topic, key, value) for key, value in zip(keys, values, strict=True)]

    def flush(self, timeout_s: float) -> None: ...

    def close(self) -> None: ...


def telemetry(steps: int, interval_s: float = 300.0) -> Batch:
    n = 2 * steps
    return Batch(
        input="servers",
        feature_names=("f01", "f02"),
        sources=(Source("test.parquet", 0),),
        source=np.zeros(n, dtype=np.int64),
        offset=np.arange(n),
        entity=["a", "b"] * steps,
        time=np.asarray(1.7e9 + interval_s * (np.arange(n) // 2), dtype=np.float64),
        values=np.random.default_rng(1).random((n, 2)).astype(np.float32).astype(np.float64),
    )


def test_records_are_sent_when_their_time_has_come_keyed_by_entity() -> None:
    producer = ListProducer()
    feed = Feed(producer, "t", telemetry(10), speed_up=600.0)
    assert feed.step(0.0, 0) == 2  # the first of both servers
    assert feed.step(0.4, 2) == 0
    assert feed.step(0.5, 2) == 2
    assert feed.step(1.6, 4) == 4
    assert [(topic, key) for topic, key, _ in producer.sent] == [("t", b"a"), ("t", b"b")] * 4
    assert (feed.sent, feed.finished) == (8, False)
    assert feed.event_time == 1.7e9 + 900.0


def test_feed_never_runs_further_ahead_of_the_answers_than_the_broker_keeps() -> None:
    producer = ListProducer()
    feed = Feed(producer, "t", telemetry(MAX_UNANSWERED), speed_up=1e12)
    assert feed.step(1.0, 0) == MAX_UNANSWERED
    assert feed.step(2.0, 0) == 0
    assert feed.step(3.0, 100) == 100
    assert feed.step(4.0, MAX_UNANSWERED + 100) == MAX_UNANSWERED - 100
    assert feed.finished
    assert feed.step(5.0, 0) == 0
    assert len(producer.sent) == 2 * MAX_UNANSWERED


def test_daemon_decodes_exactly_what_was_encoded() -> None:
    batch = telemetry(50)
    features = tuple((name, (name,)) for name in batch.feature_names)
    codec = JsonCodec(InputSchema(name="servers", features=features))
    n = len(batch)
    raw = RawRecords(
        sources=(Source("t", 0),),
        source=np.zeros(n, dtype=np.int64),
        offset=np.arange(n),
        value=list(encode(batch, range(n))),
        envelope=NoEnvelope(),
    )
    decoded, rejected = codec.decode(raw, 1.7e9 + 1e6)
    assert rejected == []
    assert decoded.entity == batch.entity
    np.testing.assert_array_equal(decoded.time, batch.time)
    np.testing.assert_array_equal(decoded.values, batch.values)


class NoEnvelope:
    def key(self, i: int) -> bytes | None:
        raise NotImplementedError

    def keys(self) -> list[bytes | None]:
        raise NotImplementedError

    def headers(self, i: int) -> list[Header]:
        raise NotImplementedError

    def timestamps_s(self) -> FloatArray:
        raise NotImplementedError


@pytest.mark.parametrize("rows", [range(3), range(5, 6)])
def test_only_the_rows_asked_for_are_encoded(rows: range) -> None:
    batch = telemetry(4)
    assert encode(batch, rows) == encode(batch, range(8))[rows.start : rows.stop]
