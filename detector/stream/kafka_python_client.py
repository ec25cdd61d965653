"""The port on kafka-python: pure Python, installed everywhere, the default."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

import numpy as np
from kafka import (
    ConsumerRebalanceListener,
    KafkaProducer,
    OffsetAndMetadata,
    TopicPartition,
    errors,
)
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.partitioner import DefaultPartitioner
from kafka.partitioner.default import murmur2

from detector.batch import FloatArray, Source
from detector.stream.assignment_log import AssignmentLog
from detector.stream.kafka_python_connection import (
    Result,
    ask,
    connect,
    connection_options,
    denied,
    fenced,
    not_found,
    open_kafka_consumer,
    reachable,
    unavailable,
)
from detector.stream.kafka_python_join import keep_joins
from detector.stream.port import (
    IDLE_PROBE_S,
    PROBE_TIMEOUT_S,
    BrokerUnavailableError,
    ClientSettings,
    CommitError,
    Committed,
    DeliveryError,
    Header,
    KafkaClientError,
    OffsetOutOfRangeError,
    RawRecords,
    TopicMissingError,
    UnreadableBatchError,
    check_topics,
    milliseconds,
)
from detector.stream.unreadable import FailedReads

_offset, _timestamp, _value = itemgetter(3), itemgetter(4), itemgetter(7)
"""Fields of kafka-python's ConsumerRecord, a named tuple."""

_KEYS_REMEMBERED = 262_144
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_NOT_OUR_GROUP = (
    errors.InconsistentGroupProtocolError,
    errors.InvalidSessionTimeoutError,
    errors.InvalidGroupIdError,
    errors.GroupMaxSizeReachedError,
)


class _RecordEnvelope:
    """Keys, headers and times, read from kafka-python's own records."""

    __slots__ = ("_records",)

    def __init__(self, records: list[Any]) -> None:
        self._records = records

    def key(self, i: int) -> bytes | None:
        key: bytes | None = self._records[i].key
        return key

    def keys(self) -> list[bytes | None]:
        return [record.key for record in self._records]

    def headers(self, i: int) -> list[Header]:
        return [(name, value or b"") for name, value in self._records[i].headers]

    def timestamps_s(self) -> FloatArray:
        milliseconds = np.fromiter(map(_timestamp, self._records), np.int64, len(self._records))
        return np.where(milliseconds >= 0, milliseconds / 1000.0, np.nan)


def columns(polled: Mapping[TopicPartition, list[Any]]) -> RawRecords:
    """Turn what kafka-python's poll returns into columns."""
    records = [record for of_partition in polled.values() for record in of_partition]
    lengths = [len(of_partition) for of_partition in polled.values()]
    return RawRecords(
        sources=tuple(Source(tp.topic, tp.partition) for tp in polled),
        source=np.repeat(np.arange(len(lengths), dtype=np.int64), lengths),
        offset=np.fromiter(map(_offset, records), np.int64, len(records)),
        value=list(map(_value, records)),
        envelope=_RecordEnvelope(records),
    )


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Writes changes down; runs on kafka-python's IO thread, so it may not call the consumer."""

    def __init__(self, log: AssignmentLog) -> None:
        self._log = log

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Wait for the assignment that follows: most of these come straight back."""

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._log.replace(Source(tp.topic, tp.partition) for tp in assigned)

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._log.replace(())


class KafkaPythonConsumer:
    """``Consumer`` on kafka-python."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._assignment = AssignmentLog()
        self._topics: tuple[str, ...] = ()
        self._failed_reads = FailedReads(settings)
        self._consumer = open_kafka_consumer(
            settings,
            group_id=settings.group_id,
            group_instance_id=settings.instance_id,
            session_timeout_ms=milliseconds(settings.session_timeout_s),
            heartbeat_interval_ms=milliseconds(settings.session_timeout_s / 6),
            max_poll_interval_ms=milliseconds(settings.max_poll_interval_s),
            metadata_max_age_ms=milliseconds(settings.metadata_age_s),
            # The other client speaks it too, so members of one group may use either.
            partition_assignment_strategy=[RangePartitionAssignor],
        )
        keep_joins(self._consumer._coordinator, settings)
        self._heard = time.monotonic()
        self._topics_due = self._heard + settings.metadata_age_s

    def subscribe(self, topics: Sequence[str]) -> None:
        check_topics(topics)
        self._find(topics)
        self._topics = tuple(topics)
        self._consumer.subscribe(topics=list(topics), listener=_Listener(self._assignment))

    def poll(self, max_records: int, timeout_s: float) -> RawRecords:
        if time.monotonic() >= self._topics_due:
            self._topics_due = time.monotonic() + self._settings.metadata_age_s
            self._find(self._topics)
        try:
            polled = self._consumer.poll(timeout_ms=milliseconds(timeout_s), max_records=max_records)
        except errors.NoOffsetForPartitionError as error:
            self._start(error.args[0])
            polled = {}
        except errors.OffsetOutOfRangeError as error:
            lost: dict[TopicPartition, int] = error.args[0]
            self._move(self._consumer.seek_to_beginning, *lost)
            raise OffsetOutOfRangeError(_lost_text(lost), self._passed_by(lost)) from error
        except errors.LogTruncationError as error:
            for tp, end in error.divergent_offsets.items():
                if end is None:
                    self._move(self._consumer.seek_to_beginning, tp)
                else:
                    self._move(self._consumer.seek, tp, end.offset)
            raise OffsetOutOfRangeError(_lost_text(error.divergent_offsets)) from error
        except errors.FencedInstanceIdError as error:
            raise fenced(self._settings) from error
        except errors.AuthorizationError as error:
            raise denied(self._settings, error) from error
        except _NOT_OUR_GROUP as error:
            raise KafkaClientError(
                f"group {self._settings.group_id!r} does not take us: {error!r}; check whether "
                "another application uses it, and which session timeouts and group sizes the broker allows"
            ) from error
        # What is wrong with a batch surfaces as any kind of error: struct's, zlib's, kafka-python's own.
        except Exception as error:
            failure = self._failed_reads.error(self._drop_broken_batch(), repr(error))
            if isinstance(failure, UnreadableBatchError):
                for source, batch in failure.passed.items():
                    self._move(self._consumer.seek, TopicPartition(*source), batch.stop)
            raise failure from error
        now = time.monotonic()
        if polled:
            self._heard = now
        elif now - self._heard > IDLE_PROBE_S:
            self._probe()
        return columns(polled)

    def take_revoked(self) -> list[Source]:
        return self._assignment.take_revoked()

    def take_assigned(self) -> list[Source]:
        return self._assignment.take_assigned()

    def assigned(self) -> frozenset[Source]:
        return self._assignment.held()

    def commit(self, next_offsets: Mapping[Source, int], notes: Mapping[Source, str] | None = None) -> None:
        if not next_offsets:
            return
        offsets = {
            TopicPartition(*source): OffsetAndMetadata(offset, (notes or {}).get(source, ""), -1)
            for source, offset in next_offsets.items()
        }
        try:
            self._consumer.commit(offsets, timeout_ms=milliseconds(self._settings.commit_timeout_s))
        except errors.FencedInstanceIdError as error:
            raise fenced(self._settings) from error
        except errors.AuthorizationError as error:
            raise denied(self._settings, error) from error
        except errors.KafkaError as error:
            raise CommitError(
                f"group {self._settings.group_id!r} did not commit {dict(next_offsets)}: {error!r}; "
                "the records come again"
            ) from error

    def committed(self, sources: Collection[Source]) -> dict[Source, Committed]:
        ask = partial(
            self._consumer.committed, metadata=True, timeout_ms=milliseconds(self._settings.commit_timeout_s)
        )
        found = {source: self._ask(partial(ask, TopicPartition(*source))) for source in sources}
        # librdkafka ends a note that it commits as C ends a text.
        return {
            source: Committed(at.offset, (at.metadata or "").rstrip("\0"))
            for source, at in found.items()
            if at is not None
        }

    def seek_to_committed(self) -> None:
        partitions = self._partitions()
        committed = self.committed([Source(tp.topic, tp.partition) for tp in partitions])
        without: list[TopicPartition] = []
        for tp in partitions:
            at = committed.get(Source(tp.topic, tp.partition))
            if at is None:
                without.append(tp)
            else:
                self._move(self._consumer.seek, tp, at.next_offset)
        if without:
            self._start(without)

    def lag(self) -> dict[Source, int]:
        lags: dict[Source, int] = {}
        for tp in self._partitions():
            try:
                high = self._consumer.highwater(tp)
                position = self._consumer.position(tp, timeout_ms=100)
            # Not started yet, just given to somebody else, or no broker: the next poll sees to it.
            except errors.KafkaError:
                continue
            if high is not None and position is not None:
                lags[Source(tp.topic, tp.partition)] = max(0, high - position)
        return lags

    def close(self) -> None:
        # The library's default waits as long as a request may take, too long for a process told to end.
        self._consumer.close(autocommit=False, timeout_ms=2000)

    def _partitions(self) -> list[TopicPartition]:
        return sorted(self._consumer.assignment())

    def _start(self, partitions: Iterable[TopicPartition]) -> None:
        earliest = self._settings.start_from == "earliest"
        to_start = self._consumer.seek_to_beginning if earliest else self._consumer.seek_to_end
        for tp in partitions:
            self._move(to_start, tp)

    def _move(self, seek: Callable[..., None], *where: Any) -> None:
        # A rebalance on the IO thread may have taken the partition meanwhile: then it is not ours to move.
        with contextlib.suppress(ValueError):
            seek(*where)

    def _drop_broken_batch(self) -> dict[Source, int]:
        """Make kafka-python forget the batch it failed on; return all positions.

        It keeps the half-read batch, whose iterator has ended, and a poll at the same position never returns.
        A seek away and a poll let go of it as well, but not while the group is busy: such a poll ends early.
        """
        broken = self._consumer._fetcher._next_partition_records
        if broken is not None:
            broken.drain()
        positions: dict[Source, int] = {}
        for tp in self._partitions():
            # A rebalance on the IO thread may have taken it meanwhile.
            with contextlib.suppress(errors.KafkaError):
                position = self._consumer.position(tp, timeout_ms=100)
                if position is not None:
                    positions[Source(tp.topic, tp.partition)] = position
        return positions

    def _passed_by(self, positions: Mapping[TopicPartition, int]) -> dict[Source, int]:
        """Return how many records were removed after these positions; a topic made anew does not tell."""
        timeout_ms = milliseconds(PROBE_TIMEOUT_S)
        with contextlib.suppress(KafkaClientError):
            oldest: dict[TopicPartition, int] = self._ask(
                lambda: self._consumer.beginning_offsets(list(positions), timeout_ms=timeout_ms)
            )
            return {
                Source(tp.topic, tp.partition): oldest[tp] - position
                for tp, position in positions.items()
                if oldest[tp] > position
            }
        return {}

    def _find(self, topics: Sequence[str]) -> None:
        """Raise where a topic does not exist; asks a broker only where none was known a moment ago."""
        missing = [
            topic for topic in topics if not self._ask(partial(self._consumer.partitions_for_topic, topic))
        ]
        if missing:
            raise not_found(self._settings, self._consumer, missing)

    def _probe(self) -> None:
        if not self._topics:
            return
        asked = [TopicPartition(self._topics[0], 0)]
        self._ask(lambda: self._consumer.end_offsets(asked, timeout_ms=milliseconds(PROBE_TIMEOUT_S)))
        if self._settings.instance_id is not None and self._heartbeats_ended():
            raise fenced(self._settings)
        self._heard = time.monotonic()

    def _heartbeats_ended(self) -> bool:
        """Return whether the group has another member in our place: the library tells only with a commit.

        It ends its heartbeats then, and takes itself for a member all the same.
        """
        coordinator = self._consumer._coordinator
        sends = getattr(coordinator, "_heartbeat_enabled", True)
        return not sends and coordinator.stable() and coordinator.heartbeat.session_timeout_expired()

    def _ask(self, call: Callable[[], Result]) -> Result:
        return ask(self._settings, call)


class KafkaPythonProducer:
    """``Producer`` on kafka-python."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._unconfirmed: dict[str, list[Any]] = {}
        self._refused: dict[str, list[BaseException]] = {}
        self._known_topics: set[str] = set()
        self._producer = self._opened()

    def find(self, topic: str) -> None:
        check_topics([topic])
        try:
            self._producer.partitions_for(topic)
        except errors.AuthorizationError as error:
            raise denied(self._settings, error) from error
        except errors.KafkaError as error:
            if reachable(self._settings):
                raise TopicMissingError(f"topic {topic!r} does not exist; create it") from error
            raise unavailable(self._settings, error) from error
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
        unconfirmed = self._unconfirmed.setdefault(topic, [])
        send, confirm_later = self._producer.send, unconfirmed.append
        for i, (key, value) in enumerate(zip(keys, values, strict=True)):
            try:
                confirm_later(send(topic, value, key, None if headers is None else list(headers[i])))
            except errors.KafkaTimeoutError as error:
                raise BrokerUnavailableError(
                    f"topic {topic!r}: {len(values) - i} records could not be queued: {error}"
                ) from error
            # Too large, or neither key nor value: kafka-python refuses these before queueing.
            except (errors.KafkaError, ValueError) as error:
                self._refused.setdefault(topic, []).append(error)

    def flush(self, timeout_s: float) -> None:
        cause: BaseException | None = None
        try:
            self._producer.flush(timeout=timeout_s)
        # Besides the timeout: of a batch that is sent again in parts the library says that it is unknown.
        except errors.KafkaError as error:
            cause = error
        refused, self._refused = self._refused, {}
        still_pending: dict[str, list[Any]] = {}
        spoilt = False
        for topic, futures in self._unconfirmed.items():
            for future in futures:
                if not future.is_done:
                    still_pending.setdefault(topic, []).append(future)
                elif future.exception is not None:
                    refused.setdefault(topic, []).append(future.exception)
                    spoilt = spoilt or isinstance(future.exception, _TOO_LARGE)
        if spoilt:
            # Having refused one record for its size, kafka-python 3.0.12 refuses every other.
            for topic, futures in still_pending.items():
                refused.setdefault(topic, []).extend(errors.KafkaTimeoutError() for _ in futures)
            still_pending = {}
            self.close()
            self._producer = self._opened()
        self._unconfirmed = still_pending
        if refused or still_pending:
            raise _delivery_error(refused, still_pending) from cause

    def close(self) -> None:
        try:
            self._producer.close(timeout=1.0)
        except errors.KafkaTimeoutError:
            # Records left over are the caller's choice: it did not flush. The library has no public way
            # to drop them, and would wait for them again when it is garbage collected.
            self._producer._sender.force_close()
            self._producer.close(timeout=1.0)

    def _opened(self) -> Any:
        settings = self._settings
        return connect(
            settings,
            lambda: KafkaProducer(
                **connection_options(settings),
                acks="all",
                enable_idempotence=True,
                linger_ms=milliseconds(settings.linger_s),
                batch_size=131_072,
                compression_type=None if settings.compression == "none" else settings.compression,
                delivery_timeout_ms=milliseconds(settings.delivery_timeout_s),
                max_block_ms=milliseconds(settings.connect_timeout_s),
                partitioner=_RememberingPartitioner(),
            ),
        )


class _RememberingPartitioner(DefaultPartitioner):  # type: ignore[misc]
    """Kafka's own choice for a key, remembered: its hash in Python costs more than the rest of a send."""

    def __init__(self) -> None:
        self._hash = lru_cache(maxsize=_KEYS_REMEMBERED)(murmur2)

    def partition(
        self,
        topic: str,
        key: Any,
        serialized_key: bytes | None,
        value: Any,
        serialized_value: Any,
        cluster: Any,
    ) -> int:
        if serialized_key is None:
            anywhere: int = super().partition(topic, key, serialized_key, value, serialized_value, cluster)
            return anywhere
        partitions = len(cluster.partitions_for_topic(topic))
        chosen: int = (self._hash(serialized_key) & 0x7FFFFFFF) % partitions
        return chosen


def _lost_text(positions: Mapping[TopicPartition, Any]) -> str:
    where = ", ".join(f"{tp.topic}[{tp.partition}]@{position}" for tp, position in positions.items())
    return f"records wanted at {where} are gone from the broker; going on with the oldest it has"


def _delivery_error(
    refused: Mapping[str, Sequence[BaseException]], pending: Mapping[str, Sequence[Any]]
) -> DeliveryError:
    n_refused, n_pending = sum(map(len, refused.values())), sum(map(len, pending.values()))
    causes = [error for of_topic in refused.values() for error in of_topic]
    for_size = any(isinstance(error, _TOO_LARGE) for error in causes)
    return DeliveryError(
        f"topics {sorted({*refused, *pending})}: {n_refused} records refused"
        f"{f' (first: {causes[0]!r})' if causes else ''}, {n_pending} unacknowledged; "
        "check the brokers, the topics' max.message.bytes and the ACLs",
        refused=n_refused,
        pending=n_pending,
        too_large=refused if for_size else (),
    )
