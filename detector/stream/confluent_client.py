"""The port on confluent-kafka: librdkafka in C, several times faster, an extra to install."""

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

# First: where the library is not installed, this says what to do.
from detector.stream.confluent_connection import Connection, milliseconds  # isort: skip
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from detector.batch import Source
from detector.stream.assignment_log import AssignmentLog
from detector.stream.port import (
    IDLE_PROBE_S,
    PROBE_TIMEOUT_S,
    AccessDeniedError,
    BrokerUnavailableError,
    ClientFailedError,
    ClientSettings,
    CommitError,
    DeliveryError,
    FetchError,
    Header,
    KafkaClientError,
    OffsetOutOfRangeError,
    RawRecords,
    check_topics,
)

_UNREADABLE = {KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError.INVALID_MSG}
_HARMLESS = {KafkaError._MAX_POLL_EXCEEDED, KafkaError._PARTITION_EOF}
"""What rebalances or later polls tell anyway."""


class _MessageEnvelope:
    """Keys and headers, read from librdkafka's messages."""

    __slots__ = ("_messages",)

    def __init__(self, messages: list[Any]) -> None:
        self._messages = messages

    def key(self, i: int) -> bytes | None:
        key: bytes | None = self._messages[i].key()
        return key

    def keys(self) -> list[bytes | None]:
        return list(map(Message.key, self._messages))

    def headers(self, i: int) -> list[Header]:
        return [(name, value or b"") for name, value in self._messages[i].headers() or ()]


def _columns(messages: list[Any]) -> RawRecords:
    n = len(messages)
    of_record: list[tuple[Any, Any]] = list(
        zip(map(Message.topic, messages), map(Message.partition, messages), strict=True)
    )
    index = {source: i for i, source in enumerate(dict.fromkeys(of_record))}
    times = np.fromiter(chain.from_iterable(map(Message.timestamp, messages)), np.int64, 2 * n)
    # In pairs: what kind of time it is, 0 for none, and milliseconds.
    kind, time_ms = times[0::2], times[1::2]
    return RawRecords(
        sources=tuple(Source(topic, partition) for topic, partition in index),
        source=np.fromiter(map(index.__getitem__, of_record), np.int64, n),
        offset=np.fromiter(map(Message.offset, messages), np.int64, n),
        value=list(map(Message.value, messages)),
        timestamp_s=np.where(kind == 0, np.nan, time_ms / 1000.0),
        envelope=_MessageEnvelope(messages),
    )


class ConfluentConsumer:
    """``Consumer`` on confluent-kafka."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._assignment = AssignmentLog()
        self._topics: tuple[str, ...] = ()
        self._deferred: KafkaClientError | None = None
        self._read_from: set[Source] = set()
        self._start: dict[Source, int] = {}
        self._connection = Connection(settings)
        options: dict[str, Any] = {
            "group.id": settings.group_id,
            "session.timeout.ms": milliseconds(settings.session_timeout_s),
            "heartbeat.interval.ms": milliseconds(settings.session_timeout_s / 6),
            "max.poll.interval.ms": milliseconds(
                max(settings.max_poll_interval_s, settings.session_timeout_s)
            ),
            "socket.timeout.ms": milliseconds(settings.request_timeout_s),
            # The other client speaks it too, so members of one group may use either.
            "partition.assignment.strategy": "range",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # Where to start and what was lost is decided here, not silently in the library.
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "check.crcs": True,
            # A full queue pauses fetching for a second by default, which halves the throughput.
            "fetch.queue.backoff.ms": 5,
            "queued.min.messages": settings.queued_records,
        }
        if settings.instance_id is not None:
            options["group.instance.id"] = settings.instance_id
        self._consumer = self._connection.open(Consumer, options)
        self._heard = time.monotonic()

    def subscribe(self, topics: Sequence[str]) -> None:
        check_topics(topics)
        for topic in topics:
            self._connection.find_topic(self._consumer, topic, timeout_s=0.0)
        self._topics = tuple(topics)
        self._consumer.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def poll(self, max_records: int, timeout_s: float) -> RawRecords:
        self._raise_deferred()
        try:
            messages: list[Any] = self._consumer.consume(max_records, 0)
            if not messages:
                # With a timeout consume() waits until its list is full, and the first record with it.
                first = self._consumer.poll(timeout_s)
                if first is not None:
                    messages = [first]
                    if max_records > 1:
                        messages += self._consumer.consume(max_records - 1, 0)
        except KafkaException as error:
            raise self._connection.translated(error) from error
        if messages:
            self._heard = time.monotonic()
            if any(map(Message.error, messages)):
                messages = self._sound(messages)
        elif time.monotonic() - self._heard > IDLE_PROBE_S:
            self._probe()
        raw = _columns(messages)
        self._read_from.update(raw.sources)
        if not messages:
            self._raise_deferred()
        return raw

    def take_revoked(self) -> list[Source]:
        return self._assignment.take_revoked()

    def take_assigned(self) -> list[Source]:
        return self._assignment.take_assigned()

    def assigned(self) -> frozenset[Source]:
        return self._assignment.held()

    def commit(self, next_offsets: Mapping[Source, int]) -> None:
        if not next_offsets:
            return
        offsets = [TopicPartition(*source, offset) for source, offset in next_offsets.items()]
        try:
            refused = [tp for tp in self._consumer.commit(offsets=offsets, asynchronous=False) if tp.error]
        except KafkaException as error:
            translated = self._connection.translated(error)
            if isinstance(translated, AccessDeniedError | ClientFailedError):
                raise translated from error
            raise self._not_committed(next_offsets, error.args[0]) from error
        if refused:
            raise self._not_committed(next_offsets, refused[0].error)

    def seek_to_committed(self) -> None:
        held = self._consumer.assignment()
        if not held:
            return
        start = OFFSET_BEGINNING if self._settings.start_from == "earliest" else OFFSET_END
        targets = self._committed(held)
        for tp in targets:
            if tp.offset == OFFSET_INVALID:
                tp.offset = start
        # Assigning the same partitions anew moves them whatever state their fetchers are in; seek() does not.
        self._consumer.assign(targets)
        self._deferred = None
        self._forget_positions()

    def lag(self) -> dict[Source, int]:
        held = self._consumer.assignment()
        lags: dict[Source, int] = {}
        for tp in self._consumer.position(held) if held else ():
            source = Source(tp.topic, tp.partition)
            low, high = self._consumer.get_watermark_offsets(tp, cached=True)
            if high < 0:
                continue
            position = tp.offset if tp.offset >= 0 else self._first_position(source, low, high)
            lags[source] = max(0, high - position)
        return lags

    def close(self) -> None:
        self._consumer.close()

    def _on_assign(self, _consumer: Any, partitions: Iterable[Any]) -> None:
        self._forget_positions()
        self._assignment.replace(Source(tp.topic, tp.partition) for tp in partitions)

    def _on_revoke(self, _consumer: Any, partitions: Iterable[Any]) -> None:
        """Wait for the assignment that follows: most of these come straight back."""

    def _on_lost(self, _consumer: Any, partitions: Iterable[Any]) -> None:
        self._forget_positions()
        self._assignment.replace(())

    def _raise_deferred(self) -> None:
        if self._deferred is not None:
            deferred, self._deferred = self._deferred, None
            raise deferred

    def _forget_positions(self) -> None:
        self._read_from.clear()
        self._start.clear()

    def _sound(self, messages: list[Any]) -> list[Any]:
        """Return the records, and keep what went wrong for the poll after them.

        A partition with an error stands before it afterwards, so its later records are left for another poll.
        """
        sound, stopped = [], set()
        for message in messages:
            source = Source(message.topic(), message.partition())
            error = message.error()
            if error is None:
                if source not in stopped:
                    sound.append(message)
            elif error.code() in _HARMLESS:
                continue
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                stopped.add(source)
                self._resume_without_offset(source, message.offset())
            elif error.code() in _UNREADABLE:
                stopped.add(source)
                self._step_back(source, message, sound)
            else:
                self._deferred = self._connection.error_for(error)
        return sound

    def _resume_without_offset(self, source: Source, wanted: int) -> None:
        tp = TopicPartition(*source)
        if source not in self._read_from and self._committed([tp])[0].offset == OFFSET_INVALID:
            earliest = self._settings.start_from == "earliest"
            self._seek(source, OFFSET_BEGINNING if earliest else OFFSET_END)
            return
        self._seek(source, OFFSET_BEGINNING)
        self._deferred = OffsetOutOfRangeError(
            f"records wanted at {source.topic}[{source.partition}]@{wanted} are gone from the broker; "
            "going on with the oldest it has"
        )

    def _step_back(self, source: Source, broken: Any, before: Iterable[Any]) -> None:
        read = [m.offset() + 1 for m in before if (m.topic(), m.partition()) == source]
        # The broken batch may begin before our position.
        position = max([broken.offset(), *read, *(self._position(source),)])
        self._seek(source, position)
        self._deferred = FetchError(
            f"cannot read the records at {source.topic}[{source.partition}]@{position}: "
            f"{broken.error().str()}; they are tried again. If that goes on, the batch is corrupt on the "
            "broker: move the group's offset past it"
        )

    def _position(self, source: Source) -> int:
        offset: int = self._consumer.position([TopicPartition(*source)])[0].offset
        return offset

    def _seek(self, source: Source, offset: int) -> None:
        try:
            self._consumer.seek(TopicPartition(*source, offset))
        except KafkaException as error:
            raise self._connection.translated(error) from error

    def _committed(self, partitions: list[Any]) -> list[Any]:
        try:
            committed: list[Any] = self._consumer.committed(partitions, self._settings.request_timeout_s)
        except KafkaException as error:
            raise self._connection.translated(error) from error
        return committed

    def _first_position(self, source: Source, low: int, high: int) -> int:
        """Return where a partition without a record read so far begins; asks the broker once."""
        if source not in self._start:
            committed = self._committed([TopicPartition(*source)])[0].offset
            if committed == OFFSET_INVALID:
                committed = max(low, 0) if self._settings.start_from == "earliest" else high
            self._start[source] = committed
        return self._start[source]

    def _probe(self) -> None:
        if self._topics:
            self._connection.metadata(self._consumer, self._topics[0], PROBE_TIMEOUT_S)
            self._heard = time.monotonic()

    def _not_committed(self, offsets: Mapping[Source, int], reason: KafkaError) -> CommitError:
        return CommitError(
            f"group {self._settings.group_id!r} did not commit {dict(offsets)}: {reason.str()}; "
            "the records come again"
        )


class ConfluentProducer:
    """``Producer`` on confluent-kafka."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._refused: list[KafkaError] = []
        self._topics_since_flush: set[str] = set()
        self._known_topics: set[str] = set()
        self._connection = Connection(settings)
        self._producer = self._connection.open(
            Producer,
            {
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": milliseconds(settings.linger_s),
                "compression.type": settings.compression,
                # As Kafka's own clients choose, so a key stays on its partition whatever client wrote it.
                "partitioner": "murmur2_random",
                "message.timeout.ms": milliseconds(settings.delivery_timeout_s),
                "request.timeout.ms": milliseconds(settings.request_timeout_s),
                "socket.timeout.ms": milliseconds(settings.request_timeout_s + 1),
                # Only failures reach Python: a callback per record would cost more than the record.
                "delivery.report.only.error": True,
                "on_delivery": self._on_failure,
            },
        )

    def send(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Sequence[Header]] | None = None,
    ) -> None:
        if topic not in self._known_topics:
            check_topics([topic])
            self._connection.find_topic(self._producer, topic, self._settings.connect_timeout_s)
            self._known_topics.add(topic)
        self._topics_since_flush.add(topic)
        produce = self._producer.produce
        if headers is None:
            for key, value in zip(keys, values, strict=True):
                try:
                    produce(topic, value, key)
                except (BufferError, KafkaException) as error:
                    self._retry_or_refuse(error, topic, value, key, None)
        else:
            for key, value, header in zip(keys, values, headers, strict=True):
                try:
                    produce(topic, value, key, headers=list(header))
                except (BufferError, KafkaException) as error:
                    self._retry_or_refuse(error, topic, value, key, list(header))

    def flush(self, timeout_s: float) -> None:
        pending = self._producer.flush(timeout_s)
        refused, self._refused = self._refused, []
        topics = sorted(self._topics_since_flush)
        if not pending:
            self._topics_since_flush.clear()
        if refused or pending:
            raise DeliveryError(
                f"topics {topics}: {len(refused)} records refused"
                f"{f' (first: {refused[0].str()})' if refused else ''}, "
                f"{pending} unacknowledged after {timeout_s} s; "
                "check the brokers, the topics' max.message.bytes and the ACLs",
                refused=len(refused),
                pending=pending,
            )

    def close(self) -> None:
        # What was not flushed is dropped: without this the destructor would wait for it.
        self._producer.purge()
        self._producer.flush(1.0)

    def _on_failure(self, error: KafkaError | None, _message: Any) -> None:
        if error is not None:
            self._refused.append(error)

    def _retry_or_refuse(
        self,
        error: BufferError | KafkaException,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        header: list[Header] | None,
    ) -> None:
        deadline = time.monotonic() + self._settings.request_timeout_s
        while isinstance(error, BufferError):
            if time.monotonic() > deadline:
                raise BrokerUnavailableError(
                    f"topic {topic!r}: the queue stayed full for {self._settings.request_timeout_s} s"
                ) from error
            # Serves the reports of records that arrived, which makes room.
            self._producer.poll(0.05)
            try:
                self._producer.produce(topic, value, key, headers=header)
                return
            except (BufferError, KafkaException) as again:
                error = again
        reason = error.args[0]
        if reason.fatal():
            raise ClientFailedError(f"the producer cannot go on: {reason.str()}") from error
        self._refused.append(reason)
