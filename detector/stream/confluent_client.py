"""The port on confluent-kafka: librdkafka in C, several times faster, an extra to install."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from itertools import chain
from typing import Any

import numpy as np

# First: where the library is not installed, this says what to do.
from detector.stream.confluent_connection import Connection  # isort: skip
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

from detector.batch import FloatArray, Source
from detector.stream.assignment_log import AssignmentLog
from detector.stream.kafka_python_client import KafkaPythonConsumer
from detector.stream.port import (
    IDLE_PROBE_S,
    PROBE_TIMEOUT_S,
    AccessDeniedError,
    BrokerUnavailableError,
    ClientFailedError,
    ClientSettings,
    CommitError,
    Committed,
    DeliveryError,
    Header,
    KafkaClientError,
    OffsetOutOfRangeError,
    RawRecords,
    UnreadableBatchError,
    check_topics,
    milliseconds,
)
from detector.stream.unreadable import FailedReads

_UNREADABLE = {KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError.INVALID_MSG}
_HARMLESS = {KafkaError._MAX_POLL_EXCEEDED, KafkaError._PARTITION_EOF}
"""What rebalances or later polls tell anyway."""
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}


class _MessageEnvelope:
    """Keys, headers and times, read from librdkafka's messages."""

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

    def timestamps_s(self) -> FloatArray:
        pairs = chain.from_iterable(map(Message.timestamp, self._messages))
        # In pairs: what kind of time it is, 0 for none, and milliseconds.
        kind, milliseconds = np.fromiter(pairs, np.int64, 2 * len(self._messages)).reshape(-1, 2).T
        return np.where(kind == 0, np.nan, milliseconds / 1000.0)


def _columns(messages: list[Any]) -> tuple[RawRecords, dict[Source, int]]:
    """Return the records, and after them the next offset of each source."""
    n = len(messages)
    partition = np.fromiter(map(Message.partition, messages), np.int64, n)
    offset = np.fromiter(map(Message.offset, messages), np.int64, n)
    topics: list[Any] = list(set(map(Message.topic, messages)))
    # Partitions are small numbers, so counting them is cheaper than sorting. Nearly always there is one
    # topic, and then they alone tell the sources apart.
    n_partitions, key = int(partition.max(initial=-1)) + 1, partition
    if len(topics) > 1:
        topic = np.fromiter(map(topics.index, map(Message.topic, messages)), np.int64, n)
        key = topic * n_partitions + partition
    occurs = np.bincount(key) > 0
    found, source = np.flatnonzero(occurs), (np.cumsum(occurs) - 1).take(key)
    sources = tuple(Source(topics[k // n_partitions], k % n_partitions) for k in found.tolist())
    highest = np.full(found.size, -1, dtype=np.int64)
    np.maximum.at(highest, source, offset)
    raw = RawRecords(
        sources=sources,
        source=source,
        offset=offset,
        value=list(map(Message.value, messages)),
        envelope=_MessageEnvelope(messages),
    )
    return raw, {source: last + 1 for source, last in zip(sources, highest.tolist(), strict=True)}


class ConfluentConsumer:
    """``Consumer`` on confluent-kafka."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._assignment = AssignmentLog()
        self._topics: tuple[str, ...] = ()
        self._deferred: KafkaClientError | None = None
        self._next: dict[Source, int] = {}
        """Where each partition goes on: an offset, or librdkafka's sign for an end of the partition."""
        self._unplaced = False
        self._rebalancing = True
        self._failed_reads = FailedReads(settings)
        self._connection = Connection(settings)
        options: dict[str, Any] = {
            "group.id": settings.group_id,
            "session.timeout.ms": milliseconds(settings.session_timeout_s),
            "heartbeat.interval.ms": milliseconds(settings.session_timeout_s / 6),
            "max.poll.interval.ms": milliseconds(
                max(settings.max_poll_interval_s, settings.session_timeout_s)
            ),
            "socket.timeout.ms": milliseconds(settings.request_timeout_s),
            "topic.metadata.refresh.interval.ms": milliseconds(settings.metadata_age_s),
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
        self._topics_due = self._heard + settings.metadata_age_s

    def subscribe(self, topics: Sequence[str]) -> None:
        check_topics(topics)
        for topic in topics:
            self._connection.find_topic(self._consumer, topic, patience_s=0.0)
        self._topics = tuple(topics)
        self._consumer.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def poll(self, max_records: int, timeout_s: float) -> RawRecords:
        self._raise_deferred()
        self._look_for_topics()
        if self._unplaced:
            self.seek_to_committed()
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
        elif self._heard + IDLE_PROBE_S < time.monotonic():
            self._probe()
        if any(map(Message.error, messages)):
            return self._without_errors(messages)
        raw, next_offsets = _columns(messages)
        self._next.update(next_offsets)
        return raw

    def take_revoked(self) -> list[Source]:
        return self._assignment.take_revoked()

    def take_assigned(self) -> list[Source]:
        return self._assignment.take_assigned()

    def assigned(self) -> frozenset[Source]:
        return self._assignment.held()

    def commit(self, next_offsets: Mapping[Source, int], notes: Mapping[Source, str] | None = None) -> None:
        if not next_offsets:
            return
        offsets = [
            TopicPartition(*source, offset, (notes or {}).get(source, ""))
            for source, offset in next_offsets.items()
        ]
        try:
            refused = [tp for tp in self._consumer.commit(offsets=offsets, asynchronous=False) if tp.error]
        except KafkaException as error:
            translated = self._connection.translated(error)
            if isinstance(translated, AccessDeniedError | ClientFailedError):
                raise translated from error
            raise self._not_committed(next_offsets, error.args[0]) from error
        if refused:
            raise self._not_committed(next_offsets, refused[0].error)

    def committed(self, sources: Collection[Source]) -> dict[Source, Committed]:
        # librdkafka 2.16 reads notes beyond their end, into whatever follows. Nobody joins the group here.
        with closing(KafkaPythonConsumer(self._settings)) as reader:
            return reader.committed(sources)

    def seek_to_committed(self) -> None:
        self._deferred = None
        # Nothing is ours until the next assignment, which begins at the committed offsets anyway.
        if self._rebalancing:
            return
        start = OFFSET_BEGINNING if self._settings.start_from == "earliest" else OFFSET_END
        self._next = {
            source: start if offset == OFFSET_INVALID else offset
            for source, offset in self._committed_offsets().items()
        }
        self._move()
        self._unplaced = False

    def lag(self) -> dict[Source, int]:
        lags: dict[Source, int] = {}
        for source, position in self._next.items():
            low, high = self._consumer.get_watermark_offsets(TopicPartition(*source), cached=True)
            if high < 0:
                continue
            if position < 0:
                position = high if position == OFFSET_END else max(low, 0)
            lags[source] = max(0, high - position)
        return lags

    def close(self) -> None:
        self._consumer.close()

    def _on_assign(self, consumer: Any, partitions: Iterable[Any]) -> None:
        self._assignment.replace(Source(tp.topic, tp.partition) for tp in partitions)
        # Nothing is fetched before the next poll has asked for the committed offsets: no waiting in here.
        consumer.assign([])
        self._next = {}
        self._unplaced, self._rebalancing = True, False

    def _on_revoke(self, _consumer: Any, _partitions: Iterable[Any]) -> None:
        # Which are gone is told by the assignment that follows: most of them come straight back.
        self._next = {}
        self._unplaced, self._rebalancing = False, True

    def _on_lost(self, consumer: Any, partitions: Iterable[Any]) -> None:
        self._on_revoke(consumer, partitions)
        self._assignment.replace(())

    def _committed_offsets(self) -> dict[Source, int]:
        """Return where the group goes on in the partitions held, ``OFFSET_INVALID`` where it never was."""
        held = [TopicPartition(*source) for source in sorted(self._assignment.held())]
        try:
            found: list[Any] = self._consumer.committed(held, self._settings.commit_timeout_s) if held else []
        except KafkaException as error:
            raise self._connection.translated(error) from error
        return {Source(tp.topic, tp.partition): tp.offset for tp in found}

    def _move(self) -> None:
        # Assigning the same partitions anew moves them whatever state their fetchers are in; seek() does not.
        try:
            self._consumer.assign([TopicPartition(*source, offset) for source, offset in self._next.items()])
        except KafkaException as error:
            raise self._connection.translated(error) from error

    def _raise_deferred(self) -> None:
        if self._deferred is not None:
            deferred, self._deferred = self._deferred, None
            raise deferred

    def _without_errors(self, messages: list[Any]) -> RawRecords:
        """Return the records, and keep what went wrong for the next poll, unless nothing else came.

        A partition with an error stands before it afterwards, so its later records are left for another poll.
        """
        sound: list[Any] = []
        broken: dict[Source, Any] = {}
        for message in messages:
            source = Source(message.topic(), message.partition())
            error = message.error()
            if error is None:
                if source not in broken:
                    sound.append(message)
            elif error.code() in _UNREADABLE or error.code() == KafkaError._AUTO_OFFSET_RESET:
                broken.setdefault(source, message)
            elif error.code() not in _HARMLESS:
                self._deferred = self._connection.error_for(error)
        raw, next_offsets = _columns(sound)
        self._next.update(next_offsets)
        for source, message in broken.items():
            if source in self._next:
                self._deferred = self._step_around(source, message)
        if broken:
            self._move()
        if not sound:
            self._raise_deferred()
        return raw

    def _step_around(self, source: Source, broken: Any) -> KafkaClientError:
        position = self._next[source]
        here = f"{source.topic}[{source.partition}]{f'@{position}' if position >= 0 else ''}"
        if broken.error().code() == KafkaError._AUTO_OFFSET_RESET:
            self._next[source] = OFFSET_BEGINNING
            return OffsetOutOfRangeError(
                f"records wanted at {here} are gone from the broker; going on with the oldest it has",
                self._passed_by(source, position),
            )
        if position < 0:
            position = broken.offset()
        failure = self._failed_reads.error({source: position}, broken.error().str())
        if isinstance(failure, UnreadableBatchError):
            self._next.update({of: batch.stop for of, batch in failure.passed.items()})
        return failure

    def _passed_by(self, source: Source, position: int) -> dict[Source, int]:
        """Return how many records were removed after a position; a topic made anew does not tell."""
        with suppress(KafkaException):
            oldest, _ = self._consumer.get_watermark_offsets(TopicPartition(*source), PROBE_TIMEOUT_S)
            if oldest > position >= 0:
                return {source: oldest - position}
        return {}

    def _probe(self) -> None:
        if self._topics:
            self._connection.metadata(self._consumer, self._topics[0], PROBE_TIMEOUT_S)
            self._heard = time.monotonic()

    def _look_for_topics(self) -> None:
        """Miss topics that were deleted, of which librdkafka says nothing to a group."""
        if time.monotonic() < self._topics_due:
            return
        # Whether anybody answers, the next record or probe tells.
        with suppress(BrokerUnavailableError):
            for topic in self._topics:
                self._connection.miss_topic(self._consumer, topic)
        self._topics_due = time.monotonic() + self._settings.metadata_age_s

    def _not_committed(self, offsets: Mapping[Source, int], reason: KafkaError) -> CommitError:
        return CommitError(
            f"group {self._settings.group_id!r} did not commit {dict(offsets)}: {reason.str()}; "
            "the records come again"
        )


class ConfluentProducer:
    """``Producer`` on confluent-kafka."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._refused: list[tuple[str, KafkaError]] = []
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

    def find(self, topic: str) -> None:
        check_topics([topic])
        self._connection.find_topic(self._producer, topic, self._settings.connect_timeout_s)
        self._known_topics.add(topic)

    def send(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Sequence[Header]] | None = None,
    ) -> None:
        if topic not in self._known_topics:
            self.find(topic)
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
            for_size = any(error.code() in _TOO_LARGE for _, error in refused)
            raise DeliveryError(
                f"topics {topics}: {len(refused)} records refused"
                f"{f' (first: {refused[0][1].str()})' if refused else ''}, "
                f"{pending} unacknowledged; "
                "check the brokers, the topics' max.message.bytes and the ACLs",
                refused=len(refused),
                pending=pending,
                too_large={topic for topic, _ in refused} if for_size else (),
            )

    def close(self) -> None:
        # What was not flushed is dropped: without this the destructor would wait for it.
        self._producer.purge()
        self._producer.flush(1.0)

    def _on_failure(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._refused.append((message.topic(), error))

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
        self._refused.append((topic, reason))
