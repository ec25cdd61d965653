"""The records of a time range of topics, for training: read once, by no group, to a known end."""

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial

from kafka import TopicPartition

from detector.stream.kafka_python_client import columns
from detector.stream.kafka_python_connection import ask, milliseconds, open_kafka_consumer, unavailable
from detector.stream.port import ClientSettings, RawRecords, TopicMissingError, check_topics


def read_range(
    settings: ClientSettings, topics: Sequence[str], from_time_s: float, until_time_s: float
) -> Iterator[RawRecords]:
    """Implement ``port.read_range``; see there."""
    check_topics(topics)
    consumer = open_kafka_consumer(settings, group_id=None)
    timeout_ms = milliseconds(settings.request_timeout_s)
    first_ms, end_ms = math.ceil(from_time_s * 1000), math.ceil(until_time_s * 1000)
    try:
        partitions = []
        for topic in topics:
            found = ask(settings, partial(consumer.partitions_for_topic, topic))
            if not found:
                raise TopicMissingError(f"topic {topic!r} does not exist")
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
            return
        consumer.assign(list(unread))
        for tp in unread:
            consumer.seek(tp, starts[tp].offset)
        heard = time.monotonic()
        while unread:
            polled = ask(settings, lambda: consumer.poll(timeout_ms=200, max_records=10_000))
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
