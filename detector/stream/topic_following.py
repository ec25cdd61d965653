"""A whole topic from its beginning on, and then whatever comes: read by no group, so by every process."""

from collections.abc import Iterator
from functools import partial

from kafka import TopicPartition

from detector.stream.kafka_python_client import columns
from detector.stream.kafka_python_connection import ask, not_found, open_kafka_consumer
from detector.stream.port import ClientSettings, Followed, check_topics, milliseconds
from detector.stream.unreadable import poll_readable

_POLL_RECORDS = 1000


def follow_topic(settings: ClientSettings, topic: str, poll_s: float) -> Iterator[Followed]:
    """Implement ``port.follow_topic``; see there."""
    check_topics([topic])
    consumer = open_kafka_consumer(settings, group_id=None)
    timeout_ms = milliseconds(settings.request_timeout_s)
    try:
        found = ask(settings, partial(consumer.partitions_for_topic, topic))
        if not found:
            raise not_found(settings, consumer, [topic])
        partitions = [TopicPartition(topic, partition) for partition in sorted(found)]
        begins = ask(settings, lambda: consumer.beginning_offsets(partitions, timeout_ms=timeout_ms))
        ends = ask(settings, lambda: consumer.end_offsets(partitions, timeout_ms=timeout_ms))
        consumer.assign(partitions)
        for tp in partitions:
            consumer.seek(tp, begins[tp])
        unread = {tp for tp in partitions if begins[tp] < ends[tp]}
        yield Followed(None, not unread)
        while True:
            polled = poll_readable(settings, consumer, milliseconds(poll_s), _POLL_RECORDS)
            # By position: the last offsets of a partition may be those of transaction markers.
            unread = {tp for tp in unread if consumer.position(tp, timeout_ms=timeout_ms) < ends[tp]}
            yield Followed(columns(polled) if polled else None, not unread)
    finally:
        consumer.close(autocommit=False, timeout_ms=2000)
