"""Records for the benchmark: a mixture of eight regimes, written to topics ahead or at a steady rate."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import OFFSET_END, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from detector.batch import FloatArray

N_FEATURES = 10
N_REGIMES = 8
PARTITIONS = 4
FEATURES = tuple(f"f{j}" for j in range(N_FEATURES))
WAIT_S = 60.0
_QUIET = {"log_level": 0}


class Topics:
    """Makes, counts and removes topics."""

    def __init__(self, bootstrap: str) -> None:
        self._admin = AdminClient({**_QUIET, "bootstrap.servers": bootstrap})
        self._counter = Consumer({**_QUIET, "bootstrap.servers": bootstrap, "group.id": "bench-counter"})

    def create(self, name: str) -> str:
        """Return when the topic can be written to and read."""
        self._admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(WAIT_S)
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                self._counter.list_topics(name, timeout=WAIT_S)
                self.records(name)
                return name
            # The broker answers before it leads every partition.
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def delete(self, name: str) -> None:
        self._admin.delete_topics([name])[name].result(WAIT_S)

    def records(self, name: str) -> int:
        """Return how many records the topic holds."""
        return sum(
            self._counter.get_watermark_offsets(TopicPartition(name, p), timeout=WAIT_S)[1]
            for p in range(PARTITIONS)
        )


def rows(n: int, seed: int) -> FloatArray:
    """Draw from the mixture, shape (n, N_FEATURES); every seed gives other rows of the same regimes."""
    regimes = np.random.default_rng(0)
    means = regimes.normal(0.0, 3.0, (N_REGIMES, N_FEATURES))
    factors = regimes.normal(0.0, 0.5, (N_REGIMES, N_FEATURES, N_FEATURES)) + np.eye(N_FEATURES)
    rng = np.random.default_rng(seed)
    regime = rng.integers(0, N_REGIMES, n)
    spread = np.einsum("nij,nj->ni", factors[regime], rng.normal(size=(n, N_FEATURES)))
    drawn: FloatArray = means[regime] + spread
    return drawn


def messages(n: int, entities: int, start_s: float) -> Iterator[tuple[bytes, bytes]]:
    """Yield n (key, native JSON record) pairs; entities take turns, a millisecond apart."""
    encode = msgspec.json.Encoder().encode
    for i, row in enumerate(rows(n, seed=1).tolist()):
        entity = f"host-{i % entities:06d}"
        record = {
            "entity": entity,
            "time": start_s + i * 0.001,
            "features": dict(zip(FEATURES, row, strict=True)),
        }
        yield entity.encode(), encode(record)


def fill(bootstrap: str, topic: str, n: int, entities: int) -> float:
    """Write n records; return their mean size in bytes."""
    producer = Producer(
        {**_QUIET, "bootstrap.servers": bootstrap, "linger.ms": 50, "partitioner": "murmur2_random"}
    )
    size = 0
    for i, (key, value) in enumerate(messages(n, entities, time.time() - n * 0.001)):
        producer.produce(topic, value, key)
        size += len(value)
        if i % 10_000 == 0:
            producer.flush(WAIT_S)
    if producer.flush(WAIT_S):
        raise RuntimeError(f"the broker did not take {topic}")
    return size / n


def write_training(path: Path, n: int, entities: int) -> None:
    """Write training rows as Parquet (time, entity, features), a minute apart per entity."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    drawn = rows(n, seed=2)
    steps = np.arange(n) // entities
    columns: dict[str, Any] = {
        "time": 1_700_000_000.0 + 60.0 * steps,
        "entity": [f"host-{i % entities:06d}" for i in range(n)],
    }
    columns |= {name: drawn[:, j] for j, name in enumerate(FEATURES)}
    pq.write_table(pa.table(columns), path)


class Probe:
    """Sends records at a steady rate, and says how long each took until its answer could be read."""

    def __init__(self, bootstrap: str, source: str, answers: str, entities: int) -> None:
        self._source, self._entities = source, entities
        self._producer = Producer({**_QUIET, "bootstrap.servers": bootstrap, "linger.ms": 0, "acks": "all"})
        self._consumer = Consumer({**_QUIET, "bootstrap.servers": bootstrap, "group.id": "bench-probe"})
        self._consumer.assign([TopicPartition(answers, p, OFFSET_END) for p in range(PARTITIONS)])
        self._sent = 0
        self._rows = rows(4096, seed=3).tolist()
        self._encode = msgspec.json.Encoder().encode
        self._time_of = msgspec.json.Decoder(_Answer)

    def wait_until_answered(self, alive: Callable[[], bool]) -> None:
        """Send a record now and then until answers come."""
        deadline = time.monotonic() + WAIT_S
        answered = 0
        while answered < 20:
            if not alive() or time.monotonic() > deadline:
                raise RuntimeError(f"no answers to {self._source} within {WAIT_S} s")
            self._send()
            self._producer.poll(0)
            answered += len(self._consumer.consume(100, 0.05))

    def latencies(self, rate: float, seconds: float) -> FloatArray:
        """Return seconds from produce to answer, shape (N,), without those of the first second."""
        began = time.time()
        sender = threading.Thread(target=self._send_steadily, args=(rate, seconds))
        sender.start()
        waits: list[float] = []
        silent_since = time.monotonic()
        while sender.is_alive() or time.monotonic() - silent_since < 1.0:
            # Wait for the first only: with a timeout, consume() waits until its list is full.
            first = self._consumer.poll(0.05)
            for message in [first, *self._consumer.consume(100, 0.0)] if first is not None else []:
                value = None if message.error() else message.value()
                if value is None:
                    continue
                silent_since, now = time.monotonic(), time.time()
                sent_at = self._time_of.decode(value).seconds()
                if sent_at > began + 1.0:
                    waits.append(now - sent_at)
        sender.join()
        self._producer.flush(WAIT_S)
        return np.array(waits)

    def close(self) -> None:
        self._consumer.close()

    def _send_steadily(self, rate: float, seconds: float) -> None:
        start, n = time.perf_counter(), 0
        while n < rate * seconds:
            self._send()
            self._producer.poll(0)
            n += 1
            ahead = start + n / rate - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)

    def _send(self) -> None:
        i, self._sent = self._sent, self._sent + 1
        entity = f"host-{i % self._entities:06d}"
        features = dict(zip(FEATURES, self._rows[i % len(self._rows)], strict=True))
        record = {"entity": entity, "time": time.time(), "features": features}
        self._producer.produce(self._source, self._encode(record), entity)


class _Answer(msgspec.Struct):
    """An echo repeats the time as it was sent; a score writes it as RFC 3339."""

    time: float | str

    def seconds(self) -> float:
        return self.time if isinstance(self.time, float) else datetime.fromisoformat(self.time).timestamp()
