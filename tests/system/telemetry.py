"""Telemetry for the system tests: hosts with correlated features, some of them ill for a while."""

import json
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from detector.batch import Source
from detector.stream.port import ClientSettings, RawRecords, open_producer, read_range

FEATURES = ("cpu", "memory", "disk", "network", "load")
HOSTS = tuple(f"host-{i:02d}" for i in range(20))
INTERVAL_S = 60


class Incident(NamedTuple):
    """Steps in which one host is far from normal."""

    host: str
    first: int
    last: int


class Telemetry:
    """N steps of every host, one record a minute, ending about now."""

    def __init__(self, steps: int, incidents: Sequence[Incident] = (), seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        d = len(FEATURES)
        mixing = np.eye(d) + 0.4 * np.eye(d, k=1)
        noise = rng.normal(size=(steps, len(HOSTS), d)) @ mixing
        self.values = np.zeros_like(noise)
        for t in range(1, steps):
            self.values[t] = 0.6 * self.values[t - 1] + noise[t]
        for incident in incidents:
            self.values[incident.first : incident.last + 1, HOSTS.index(incident.host)] += 12.0
        # Whole seconds, so that text and numbers mean exactly the same.
        self.start_s = float(int(time.time()) - steps * INTERVAL_S)

    def time_s(self, step: int) -> float:
        return self.start_s + step * INTERVAL_S

    def records(self, first: int, end: int) -> tuple[list[bytes], list[bytes]]:
        """Return keys and values of the steps [first, end), all hosts of a step together."""
        keys, values = [], []
        for step in range(first, end):
            for host, row in zip(HOSTS, self.values[step].tolist(), strict=True):
                keys.append(host.encode())
                record = {
                    "entity": host,
                    "time": self.time_s(step),
                    "features": dict(zip(FEATURES, row, strict=True)),
                }
                values.append(json.dumps(record | {"team": "shop"}).encode())
        return keys, values


def produce(
    settings: ClientSettings, topic: str, keys: Sequence[bytes | None], values: Sequence[bytes | None]
) -> None:
    """Write records and return when the broker has them."""
    producer = open_producer(settings)
    try:
        for start in range(0, len(values), 5000):
            producer.send(topic, keys[start : start + 5000], values[start : start + 5000])
            producer.flush(30.0)
    finally:
        producer.close()


class Read(NamedTuple):
    """One record of an output topic."""

    key: bytes | None
    value: bytes
    headers: dict[str, bytes]

    def json(self) -> Any:
        return json.loads(self.value)


def read_all(settings: ClientSettings, topic: str, *, headers: bool = False) -> list[Read]:
    """Return everything in a topic, partition after partition."""
    return [
        Read(polled.key(i), polled.value[i] or b"", dict(polled.headers(i)) if headers else {})
        for polled in _polls(settings, topic)
        for i in range(len(polled))
    ]


def origins(settings: ClientSettings, topic: str) -> list[tuple[Source, int]]:
    """Return where every record in a topic is."""
    return [
        (polled.sources[source], offset)
        for polled in _polls(settings, topic)
        for source, offset in zip(polled.source.tolist(), polled.offset.tolist(), strict=True)
    ]


def _polls(settings: ClientSettings, topic: str) -> list[RawRecords]:
    return list(read_range(settings, [topic], 0.0, time.time() + 3600.0))
