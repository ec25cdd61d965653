"""The narrow port to Kafka: what the loop asks of a client, whichever library answers.

Delivery is at least once: the client commits nothing by itself, and a record whose offset was not committed
comes again. Nothing here is safe to use from two threads.

Errors, all of them ``KafkaClientError``::

    KafkaClientError
      ClientSettingsError      a setting, a library or a codec is wrong: retrying cannot help
        InvalidTopicError      a topic name that Kafka cannot hold
      BrokerUnavailableError   no broker answers: nothing is lost, retrying is safe
      TopicMissingError        a subscribed topic does not exist: retry after creating it
      AccessDeniedError        credentials or ACLs are wrong: retry after correcting them
      OffsetOutOfRangeError    the records wanted are gone from the broker: polling goes on after them
      FetchError               a batch cannot be read: polling again reads it again
      UnreadableBatchError     it could not be read again and again: polling goes on after it
      CommitError              the offsets were not committed: their records come again
      DeliveryError            the broker does not hold every record sent
      ClientFailedError        the client is beyond repair: end the process, a new one may work
        InstanceIdTakenError   another member has our instance id: a new process would only end that one
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from detector.batch import FloatArray, IntArray, Source
from detector.stream.watchdog import STALLED_EXIT_CODE

ClientName = Literal["kafka-python", "confluent"]
Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Header = tuple[str, bytes]

IDLE_PROBE_S = 3.0
"""A consumer that received nothing for this long asks whether a broker is still there."""
PROBE_TIMEOUT_S = 2.0
"""How long it waits for the answer: an idle poll may take this much longer than asked."""

_LEGAL_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


class KafkaClientError(RuntimeError):
    """Root of everything a client raises."""


class ClientSettingsError(KafkaClientError):
    """A setting, an uninstalled library or an absent codec: no client can be made; retrying cannot help."""


class InvalidTopicError(ClientSettingsError):
    """A topic name that Kafka cannot hold."""


class BrokerUnavailableError(KafkaClientError):
    """No broker answered in time. Nothing is lost and retrying the same call is safe."""


class TopicMissingError(KafkaClientError):
    """A topic does not exist. Retrying is safe, and succeeds once somebody created it."""


class AccessDeniedError(KafkaClientError):
    """The broker refused the credentials, or an ACL forbids the call."""


class OffsetOutOfRangeError(KafkaClientError):
    """The broker no longer holds the records at our position: retention, or the topic was made anew.

    They are lost. The consumer already stands at the oldest record held, so polling again goes on. ``lost``
    has how many they were, where that is known.
    """

    def __init__(self, message: str, lost: Mapping[Source, int] | None = None) -> None:
        super().__init__(message)
        self.lost = dict(lost or {})


class FetchError(KafkaClientError):
    """The client cannot read what the broker sent: corrupted, or in an unknown codec.

    The consumer already stands before the unread records: polling again tries them again.
    """


class UnreadableBatchError(KafkaClientError):
    """Batches could not be read however often they were tried: bits turned on the broker's disk.

    The consumer already stands behind them, so polling again goes on. ``passed`` has their offsets.
    """

    def __init__(self, message: str, passed: Mapping[Source, range]) -> None:
        super().__init__(message)
        self.passed = dict(passed)


class CommitError(KafkaClientError):
    """The offsets were not committed: the partitions moved to another member, or the broker did not answer.

    Their records come again, here after ``seek_to_committed()``, or at their new owner.
    """


class DeliveryError(KafkaClientError):
    """The broker does not hold every record sent since the last ``flush()`` that returned.

    ``refused`` records are gone from the producer: send them again. ``pending`` ones are still in its queue
    and may yet arrive: a further ``flush()`` goes on waiting for them. Where some were refused
    for their size, or that of the batch they were in, ``too_large`` has the topics of all that were refused.
    """

    def __init__(self, message: str, *, refused: int, pending: int, too_large: Collection[str] = ()) -> None:
        super().__init__(message)
        self.refused = refused
        self.pending = pending
        self.too_large = frozenset(too_large)


class ClientFailedError(KafkaClientError):
    """The client cannot go on, its own state is broken.

    End the process without committing, with ``exit_code``; a supervisor starts a new one.
    """

    exit_code = STALLED_EXIT_CODE


class InstanceIdTakenError(ClientFailedError):
    """Another member has our instance id, and a new process would take it away from that one in turn."""

    exit_code = 2


def what_to_check(reason: str) -> str:
    """Return what to look at where no broker answers, by what a library says of it, if anything."""
    if "certificate" in reason.lower() or "frame length" in reason:
        return "check kafka.security (protocol, ca_file, certificate_file)"
    # A broker that is spoken to by another protocol hangs up, and so does one that stops.
    if not reason or "SSL" in reason or "disconnected" in reason:
        return "check kafka.security.protocol, kafka.bootstrap_servers and that the brokers run"
    return "check kafka.bootstrap_servers and that the brokers run"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Everything a client is told. The password is left out of ``repr``."""

    client: ClientName
    bootstrap_servers: tuple[str, ...]
    """Seeds, ``host:port``."""
    group_id: str = "detector"
    instance_id: str | None = None
    """A static group member: a restart within the session timeout moves no partition."""
    start_from: Literal["earliest", "latest"] = "earliest"
    """Where a group without a committed offset begins."""
    session_timeout_s: float = 10.0
    """6 to 45: silence after which the group gives our partitions to others."""
    max_poll_interval_s: float = 300.0
    """Longest pause between two polls before the group gives our partitions to others."""
    metadata_age_s: float = 15.0
    """How often a consumer asks which partitions there are, and whether its topics still exist."""
    connect_timeout_s: float = 5.0
    """Bound of opening, of subscribing and of looking up a topic."""
    request_timeout_s: float = 15.0
    """How long a broker may take to answer one request, before it counts as gone."""
    commit_timeout_s: float = 5.0
    """Bound of a commit and of reading committed offsets. A commit that finds no coordinator takes
    confluent-kafka as long as the session timeout instead."""
    delivery_timeout_s: float = 120.0
    """After this long the producer gives a record up as refused."""
    linger_s: float = 0.005
    """How long the producer waits for a batch to fill; a flush does not wait for it."""
    compression: Compression = "none"
    queued_records: int = 20_000
    """Records fetched ahead per partition, as far as the client can be told: memory against speed."""
    client_id: str = "detector"
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    """PEM file of the authorities trusted; None trusts the system's."""
    ssl_certfile: str | None = None
    """PEM file of our certificate, for brokers that ask for one; with ``ssl_keyfile``."""
    ssl_keyfile: str | None = None
    api_version: tuple[int, int] | None = None
    """kafka-python alone: protocol of a broker that cannot be asked; the embedded broker needs (2, 3)."""


class Envelope(Protocol):
    """What surrounds the values of one poll, read only when asked for: index i is the record's row."""

    def key(self, i: int) -> bytes | None: ...

    def keys(self) -> list[bytes | None]: ...

    def headers(self, i: int) -> list[Header]: ...

    def timestamps_s(self) -> FloatArray: ...


@dataclass(frozen=True, slots=True)
class RawRecords:
    """The columns of one poll: N records, in offset order within each source; sources may be mixed."""

    sources: tuple[Source, ...]
    source: IntArray
    """Shape (N,), index into ``sources``."""
    offset: IntArray
    """Shape (N,)."""
    value: list[bytes | None]
    """Length N; None is a tombstone."""
    envelope: Envelope = field(repr=False)

    def __len__(self) -> int:
        return len(self.value)

    def key(self, i: int) -> bytes | None:
        return self.envelope.key(i)

    def keys(self) -> list[bytes | None]:
        return self.envelope.keys()

    def headers(self, i: int) -> list[Header]:
        """Return the headers of record i; a header without a value has ``b""``."""
        return self.envelope.headers(i)

    def timestamps_s(self) -> FloatArray:
        """Return the records' Kafka times, shape (N,), seconds since 1970 UTC; NaN where one has none."""
        return self.envelope.timestamps_s()


class Committed(NamedTuple):
    """Where a group goes on in a partition."""

    next_offset: int
    note: str
    """What was committed with it; empty if nothing was."""


class Column(NamedTuple):
    """N records for one topic, the arguments of ``Producer.send``."""

    topic: str
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Sequence[Header]] | None = None

    def part(self, rows: slice) -> "Column":
        headers = None if self.headers is None else self.headers[rows]
        return Column(self.topic, self.keys[rows], self.values[rows], headers)


class Consumer(Protocol):
    """One member of a consumer group.

    Every call may raise ``BrokerUnavailableError``, ``AccessDeniedError`` or ``ClientFailedError``.
    """

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group for these topics; partitions arrive during later polls.

        Raises:
            InvalidTopicError: Kafka cannot hold such a name.
            TopicMissingError: A topic does not exist. Nothing is subscribed.
        """
        ...

    def poll(self, max_records: int, timeout_s: float) -> RawRecords:
        """Return what is there, waiting up to ``timeout_s`` only while there is nothing.

        The next poll goes on after the last record returned, committed or not. Ask ``take_revoked()`` and
        ``take_assigned()`` after every poll, before touching its records.

        Raises:
            BrokerUnavailableError: Nothing came for a while and no broker answers.
            TopicMissingError: A subscribed topic was deleted.
            OffsetOutOfRangeError: Records were removed before they were read; call again to go on.
            FetchError: A batch cannot be read; the next poll tries the same one again.
            UnreadableBatchError: It was tried often enough; call again to go on behind it.
        """
        ...

    def take_revoked(self) -> list[Source]:
        """Return, once, the partitions lost since the last call. Handle them before the assigned ones.

        A partition that a rebalance takes and gives straight back is reported by neither method: nobody else
        read it, and it goes on at its committed offset.
        """
        ...

    def take_assigned(self) -> list[Source]:
        """Return, once, the partitions gained since the last call."""
        ...

    def assigned(self) -> frozenset[Source]:
        """Return the partitions held now, from memory."""
        ...

    def commit(self, next_offsets: Mapping[Source, int], notes: Mapping[Source, str] | None = None) -> None:
        """Return when the broker holds these offsets, each the one *after* the last record done with.

        Args:
            next_offsets: What is committed.
            notes: Short texts that the broker keeps with some of them, until their next commit.

        Raises:
            CommitError: It holds none or only some of them.
        """
        ...

    def committed(self, sources: Collection[Source]) -> dict[Source, Committed]:
        """Return what the group committed; partitions of which it committed nothing are left out."""
        ...

    def seek_to_committed(self) -> None:
        """Go back, on every partition held, to the committed offset, or to where a new group starts."""
        ...

    def lag(self) -> dict[Source, int]:
        """Return records between our position and the high watermark, per partition held, mostly from memory.

        A partition not yet fetched from is left out. Transaction markers count as records.
        """
        ...

    def close(self) -> None:
        """Leave the group (a static member keeps its place until its session ends). Commits nothing."""
        ...


class Producer(Protocol):
    """Writes to any topic; records of one key keep their order within a topic."""

    def find(self, topic: str) -> None:
        """Return once the topic is there to be written to; brokers that make topics on demand make it.

        Raises:
            InvalidTopicError: Kafka cannot hold such a topic.
            TopicMissingError: It does not exist.
            BrokerUnavailableError: No broker says where it lives.
        """
        ...

    def send(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Sequence[Header]] | None = None,
    ) -> None:
        """Queue one column of records; blocks only while the queue is full.

        The partition follows from the key as in Kafka's own clients; without a key it is any. A record
        refused here, for its size say, is reported by the next ``flush()``.

        Raises:
            InvalidTopicError: Kafka cannot hold such a topic.
            TopicMissingError: The topic does not exist; nothing was queued.
            BrokerUnavailableError: No broker says where the topic lives, or the queue stayed full: then some
                records may have been queued.
        """
        ...

    def flush(self, timeout_s: float) -> None:
        """Return only when the brokers in sync hold every record sent since the last flush that returned.

        Input offsets are committed right after this call, so an early return would lose records on a crash.

        Raises:
            DeliveryError: Some were refused, or are unacknowledged after ``timeout_s``.
        """
        ...

    def close(self) -> None:
        """Drop what was not flushed, and let go of the connections within a second or so."""
        ...


def open_consumer(settings: ClientSettings) -> Consumer:
    """Connect a consumer.

    Raises:
        BrokerUnavailableError: No broker answered within ``connect_timeout_s``.
        ClientSettingsError: The library or a codec is missing, or it refuses a setting.
    """
    if settings.client == "confluent":
        from detector.stream.confluent_client import ConfluentConsumer

        return ConfluentConsumer(settings)
    from detector.stream.kafka_python_client import KafkaPythonConsumer

    return KafkaPythonConsumer(settings)


def open_producer(settings: ClientSettings) -> Producer:
    """Connect a producer; raises as ``open_consumer`` does."""
    if settings.client == "confluent":
        from detector.stream.confluent_client import ConfluentProducer

        return ConfluentProducer(settings)
    from detector.stream.kafka_python_client import KafkaPythonProducer

    return KafkaPythonProducer(settings)


def read_range(
    settings: ClientSettings, topics: Sequence[str], from_time_s: float, until_time_s: float | None = None
) -> Iterator[RawRecords]:
    """Read the records of a time range, by their Kafka timestamps, without joining a group.

    Reads each partition in offset order from its first record at or after ``from_time_s``, and ends where the
    partition ended when this was called, so a topic being written to ends too. Records outside
    [from_time_s, until_time_s) are left out; without an end, none is too new, since clocks may be ahead.

    Raises:
        BrokerUnavailableError: No broker answers, or it went silent in between.
        TopicMissingError: A topic does not exist.
    """
    # One implementation serves every setting: kafka-python is always installed, and training can wait.
    from detector.stream.topic_range import read_range as read

    return read(settings, topics, from_time_s, until_time_s)


class Followed(NamedTuple):
    """What one poll brought."""

    records: RawRecords | None
    is_whole: bool
    """Whether everything was read that was there when following began."""


def follow_topic(settings: ClientSettings, topic: str, poll_s: float) -> Iterator[Followed]:
    """Yield after each poll, also where it brought nothing, without end; closing the iterator lets go.

    One implementation serves every setting, as for ``read_range``: kafka-python is always installed, and a
    topic of announcements is small.

    Args:
        settings: Where the brokers are.
        topic: Read from the oldest record of each partition that it has now.
        poll_s: Longest wait of one poll.

    Raises:
        TopicMissingError: It does not exist.
        KafkaClientError: The broker does not answer, or records were removed before they were read.
    """
    from detector.stream.topic_following import follow_topic as follow

    return follow(settings, topic, poll_s)


class PartitionReader(Protocol):
    """Reads one partition anywhere, without joining a group. Calls raise ``BrokerUnavailableError``."""

    @property
    def first_offset(self) -> int:
        """Return the oldest offset that the broker still held when it was asked."""
        ...

    @property
    def end_offset(self) -> int:
        """Return the offset after the newest record, at that time."""
        ...

    def read(self, from_offset: int, until_offset: int) -> Iterator[RawRecords]:
        """Yield the records with offsets in [from_offset, until_offset) that are held, in order."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


def open_partition(settings: ClientSettings, source: Source) -> PartitionReader:
    """Connect a reader of one partition.

    Raises:
        BrokerUnavailableError: No broker answers.
        TopicMissingError: The topic does not exist, or has no such partition.
    """
    from detector.stream.topic_range import KafkaPartitionReader

    return KafkaPartitionReader(settings, source)


def check_topics(topics: Iterable[str]) -> None:
    """Refuse names that no broker would take.

    Raises:
        InvalidTopicError: Names the first bad one.
    """
    for topic in topics:
        if not _LEGAL_TOPIC.fullmatch(topic) or topic in {".", ".."}:
            raise InvalidTopicError(
                f"{topic!r} is not a Kafka topic name; use 1 to 249 of the letters a-z A-Z 0-9 . _ -"
            )


def milliseconds(seconds: float) -> int:
    """Return a time in Kafka's unit, never negative."""
    return max(0, round(seconds * 1000))
