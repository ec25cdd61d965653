"""Telemetry into a topic: in event-time order, at a multiple of real speed, paced by what was answered."""

from collections.abc import Sequence

import msgspec
import numpy as np

from detector.batch import Batch
from detector.stream.port import Producer
from detector.training.backtest_file import rfc3339

MAX_UNANSWERED = 3000
"""Records sent and not yet scored by everybody. The embedded broker keeps 5 MiB of a partition and
drops older records without a word: so many fit, with their scores, even if all share one partition."""


class Feed:
    """Sends each record when its time has come. Nothing here reads a clock."""

    def __init__(self, producer: Producer, topic: str, records: Batch, speed_up: float) -> None:
        """Args:
        producer: Where to send.
        topic: Keyed by entity, so that its records stay in order.
        records: In time order.
        speed_up: Seconds of event time sent in one second.
        """
        self._producer = producer
        self._topic = topic
        self._records = records
        self._speed_up = speed_up
        self.sent = 0

    @property
    def finished(self) -> bool:
        """Whether every record was sent."""
        return self.sent == len(self._records)

    @property
    def event_time(self) -> float:
        """Of the newest record sent, else of the first to be sent; seconds since 1970."""
        return float(self._records.time[max(self.sent - 1, 0)])

    def step(self, elapsed_s: float, answered: int) -> int:
        """Send what is due and return how many records that was.

        Args:
            elapsed_s: Since the first step.
            answered: Records that every detector has scored so far.
        """
        until = self._records.time[0] + elapsed_s * self._speed_up
        due = int(np.searchsorted(self._records.time, until, side="right"))
        stop = min(due, answered + MAX_UNANSWERED)
        if stop <= self.sent:
            return 0
        rows = range(self.sent, stop)
        keys = [self._records.entity[i].encode() for i in rows]
        self._producer.send(self._topic, keys, encode(self._records, rows))
        self.sent = stop
        return len(rows)


def encode(batch: Batch, rows: Sequence[int]) -> list[bytes]:
    """Return rows as JSON records in the native form."""
    names = batch.feature_names
    times = rfc3339(batch.time[list(rows)])
    return [
        msgspec.json.encode(
            {
                "entity": batch.entity[i],
                "time": time,
                "features": dict(zip(names, batch.values[i].tolist(), strict=True)),
            }
        )
        for i, time in zip(rows, times, strict=True)
    ]
