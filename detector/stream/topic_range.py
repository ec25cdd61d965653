"""Records of topics read once, by no group, to a known end: a time range, or offsets of one partition."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from kafka import TopicPartition

from detector.batch import Source
from detector.stream.kafka_python_client import columns
from detector.stream.kafka_python_connection import ask, not_found, open_kafka_consumer, unavailable
from detector.stream.port import ClientSettings, RawRecords, TopicMissingError, check_topics, milliseconds
from detector.stream.unreadable import poll_readable

_POLL_MS, _POLL_RECORDS = 200, 10_000


def read_range(
    settings: ClientSettings, topics: Sequence[str], from_time_s: float, until_time_s: float | None
) -> Iterator[RawRecords]:
    """Implement ``port.read_range``; see there."""
    check_topics(topics)
    consumer = open_kafka_consumer(settings, group_id=None)
    timeout_ms = milliseconds(settings.request_timeout_s)
    first_ms = math.ceil(from_time_s * 1000)
    end_ms = math.inf if until_time_s is None else math.ceil(until_time_s * 1000)
    try:
        partitions = []
        for topic in topics:
            found = ask(settings, partial(consumer.partitions_for_topic, topic))
            if not found:
                raise not_found(settings, consumer, [topic])
            partitions += [TopicPartition(topic, partition) for partition in sorted(found)]
        ends = ask(settings, lambda: consumer.end_offsets(partitions, timeout_ms=timeout_ms))
        starts = ask(
            settings,
            lambda: consumer.offsets_for_times(
                {tp: max(0, first_ms) for tp in partitions}, timeout_ms=timeout_ms
            ),
        )
        # A partition without any record that late has no start.
        unread = {tp: ends[tp] for tp in partitions if starts[tp] and starts[tp].offset < ends[tp]}
        if not unread:
            # Nobody is told that reading is denied who does not read.
            consumer.assign(partitions)
            consumer.seek_to_end()
            poll_readable(settings, consumer, _POLL_MS, 1)
            return
        consumer.assign(list(unread))
        for tp in unread:
            consumer.seek(tp, starts[tp].offset)
        heard = time.monotonic()
        while unread:
            polled = poll_readable(settings, consumer, _POLL_MS, _POLL_RECORDS)
            wanted = {}
            for tp, records in polled.items():
                kept = [r for r in records if first_ms <= r.timestamp < end_ms and r.offset < ends[tp]]
                if kept:
                    wanted[tp] = kept
            if wanted:
                yield columns(wanted)
            # By position, not by records: the last offsets of a partition may be transaction markers.
            done = [tp for tp, end in unread.items() if consumer.position(tp, timeout_ms=timeout_ms) >= end]
            for tp in done:
                del unread[tp]
            if done:
                consumer.pause(*done)
            if polled or done:
                heard = time.monotonic()
            elif time.monotonic() - heard > settings.request_timeout_s:
                raise unavailable(settings, TimeoutError(f"silent for {settings.request_timeout_s} s"))
    finally:
        consumer.close(autocommit=False, timeout_ms=2000)


class KafkaPartitionReader:
    """Implements ``port.PartitionReader``; see there."""

    def __init__(self, settings: ClientSettings, source: Source) -> None:
        check_topics([source.topic])
        self._settings = settings
        self._timeout_ms = milliseconds(settings.request_timeout_s)
        self._tp = TopicPartition(source.topic, source.partition)
        self._consumer = open_kafka_consumer(settings, group_id=None)
        try:
            found = ask(settings, lambda: self._consumer.partitions_for_topic(source.topic))
            if not found:
                raise not_found(settings, self._consumer, [source.topic])
            if source.partition not in found:
                raise TopicMissingError(f"topic {source.topic!r} has no partition {source.partition}")
            self.first_offset: int = self._bound(self._consumer.beginning_offsets)
            self.end_offset: int = self._bound(self._consumer.end_offsets)
            self._consumer.assign([self._tp])
        except BaseException:
            self.close()
            raise

    def read(self, from_offset: int, until_offset: int) -> Iterator[RawRecords]:
        position, until = max(from_offset, self.first_offset), min(until_offset, self.end_offset)
        if position >= until:
            return
        self._consumer.seek(self._tp, position)
        heard = time.monotonic()
        while position < until:
            polled = poll_readable(self._settings, self._consumer, _POLL_MS, _POLL_RECORDS)
            kept = [record for record in polled.get(self._tp, []) if record.offset < until]
            if kept:
                yield columns({self._tp: kept})
            # By position, not by records: the last offsets may be transaction markers.
            reached = self._consumer.position(self._tp, timeout_ms=self._timeout_ms)
            if reached > position:
                position, heard = reached, time.monotonic()
            elif time.monotonic() - heard > self._settings.request_timeout_s:
                silent = TimeoutError(f"silent for {self._settings.request_timeout_s} s")
                raise unavailable(self._settings, silent)

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=2000)

    def _bound(self, ask_for: Callable[..., dict[TopicPartition, int]]) -> int:
        return ask(self._settings, lambda: ask_for([self._tp], timeout_ms=self._timeout_ms))[self._tp]
