"""What both clients promise, held against a real broker."""

import ctypes
import struct
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from detector.batch import FloatArray, Source
from detector.stream.confluent_client import ConfluentConsumer
from detector.stream.kafka_python_client import KafkaPythonConsumer
from detector.stream.port import (
    BrokerUnavailableError,
    ClientName,
    ClientSettings,
    CommitError,
    Committed,
    Consumer,
    DeliveryError,
    FetchError,
    InstanceIdTakenError,
    InvalidTopicError,
    KafkaClientError,
    OffsetOutOfRangeError,
    Producer,
    RawRecords,
    TopicMissingError,
    UnreadableBatchError,
    open_consumer,
    open_producer,
    read_range,
)
from detector.stream.unreadable import TRIES, unreadable_batches
from tests.kafka.broker import RealBroker, free_ports
from tests.kafka.fixtures import TopicFactory, create_topic

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

WAIT_S = 30.0
Row = tuple[Source, int, bytes | None, bytes | None]


@pytest.fixture(params=["kafka-python", "confluent"])
def client(request: pytest.FixtureRequest) -> ClientName:
    name: ClientName = request.param
    return name


@pytest.fixture
def settings(client: ClientName, kafka_broker: RealBroker, group: str) -> ClientSettings:
    return settings_for(client, kafka_broker, group)


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def consumer(settings: ClientSettings, resources: ExitStack) -> Consumer:
    return resources.enter_context(closing(open_consumer(settings)))


@pytest.fixture
def producer(settings: ClientSettings, resources: ExitStack) -> Producer:
    return resources.enter_context(closing(open_producer(settings)))


@pytest.fixture(scope="module")
def mortal_broker() -> Iterator[RealBroker]:
    with RealBroker() as broker:
        yield broker


@pytest.fixture
def own_broker(mortal_broker: RealBroker) -> RealBroker:
    """A broker to kill, running; the tests before may have killed it too."""
    if not mortal_broker.running:
        mortal_broker.start()
    return mortal_broker


@pytest.fixture
def own_topic(own_broker: RealBroker) -> str:
    name = f"topic-{uuid.uuid4().hex[:12]}"
    create_topic(own_broker, name, 1)
    return name


def settings_for(client: ClientName, broker: RealBroker, group: str) -> ClientSettings:
    return ClientSettings(
        client=client,
        bootstrap_servers=(broker.bootstrap_servers,),
        group_id=group,
        session_timeout_s=6.0,
    )


def values(n: int, start: int = 0) -> list[bytes | None]:
    return [b"%d" % i for i in range(start, start + n)]


def send(producer: Producer, topic: str, column: Sequence[bytes | None], key: bytes | None = b"k") -> None:
    producer.send(topic, [key] * len(column), column)
    producer.flush(WAIT_S)


def rows(raw: RawRecords) -> list[Row]:
    return [
        (raw.sources[s], int(o), k, v)
        for s, o, k, v in zip(raw.source, raw.offset, raw.keys(), raw.value, strict=True)
    ]


def read(consumer: Consumer, n: int, max_records: int = 1000) -> list[Row]:
    """Poll until n records came, and a little longer: more than n would be repeats."""
    got: list[Row] = []
    deadline = time.monotonic() + WAIT_S
    while len(got) < n and time.monotonic() < deadline:
        got += rows(consumer.poll(max_records, 0.2))
    got += rows(consumer.poll(max_records, 0.2))
    assert len(got) == n, f"expected {n} records, got {len(got)}"
    return got


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S} s"


def next_offsets(got: Sequence[Row]) -> dict[Source, int]:
    return {source: offset + 1 for source, offset, _, _ in got}


# --- reading -------------------------------------------------------------------------------------


def test_records_of_a_partition_come_in_order_and_all_of_them(
    consumer: Consumer, producer: Producer, topic: TopicFactory
) -> None:
    name = topic(partitions=3)
    keys = [b"key-%d" % (i % 50) for i in range(5000)]
    producer.send(name, keys, values(5000))
    producer.flush(WAIT_S)
    consumer.subscribe([name])

    got = read(consumer, 5000, max_records=700)

    assert sorted(int(v or b"") for *_, v in got) == list(range(5000))
    assert {source for source, *_ in got} == {Source(name, p) for p in range(3)}
    for source in {source for source, *_ in got}:
        of_source = [row for row in got if row[0] == source]
        assert [offset for _, offset, *_ in of_source] == list(range(len(of_source)))
        assert [int(v or b"") for *_, v in of_source] == sorted(int(v or b"") for *_, v in of_source)


def test_a_poll_returns_no_more_than_asked(
    consumer: Consumer, producer: Producer, topic: TopicFactory
) -> None:
    name = topic()
    send(producer, name, values(50))
    consumer.subscribe([name])
    sizes: list[int] = []

    def all_read() -> bool:
        sizes.append(len(consumer.poll(7, 0.2)))
        return sum(sizes) >= 50

    until(all_read, "50 records")
    assert max(sizes) == 7


def test_a_poll_waits_for_nothing_but_the_first_record(
    consumer: Consumer, producer: Producer, topic: TopicFactory
) -> None:
    name = topic()
    consumer.subscribe([name])
    until(lambda: consumer.poll(10, 0.1) is not None and bool(consumer.assigned()), "assignment")
    send(producer, name, values(1))
    read(consumer, 1)
    send(producer, name, values(1))
    started = time.monotonic()
    assert len(consumer.poll(10_000, 20.0)) == 1
    assert time.monotonic() - started < 10.0


def test_keys_headers_timestamps_and_tombstones_survive(
    consumer: Consumer, producer: Producer, topic: TopicFactory
) -> None:
    name = topic()
    before = time.time()
    headers = [("reason", b"wrong_type"), ("ünicode", "é".encode()), ("empty", b"")]
    producer.send(name, [b"k", None, b"\xff\x00"], [None, b"no key", b""], [headers, [], []])
    producer.flush(WAIT_S)
    consumer.subscribe([name])

    raw = RawRecords((), np.empty(0, np.int64), np.empty(0, np.int64), [], _NoEnvelope())
    deadline = time.monotonic() + WAIT_S
    while len(raw) < 3 and time.monotonic() < deadline:
        raw = consumer.poll(10, 0.2)

    assert raw.value == [None, b"no key", b""]
    assert raw.keys() == [b"k", None, b"\xff\x00"]
    assert [raw.key(i) for i in range(3)] == raw.keys()
    assert [raw.headers(i) for i in range(3)] == [headers, [], []]
    assert raw.timestamps_s() == pytest.approx([before] * 3, abs=60.0)


class _NoEnvelope:
    def key(self, i: int) -> bytes | None: ...
    def keys(self) -> list[bytes | None]:
        return []

    def headers(self, i: int) -> list[tuple[str, bytes]]:
        return []

    def timestamps_s(self) -> FloatArray:
        return np.empty(0)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_codec_is_read_and_written(
    settings: ClientSettings,
    consumer: Consumer,
    topic: TopicFactory,
    resources: ExitStack,
    codec: Literal["gzip", "snappy", "lz4", "zstd"],
) -> None:
    name = topic()
    producer = resources.enter_context(closing(open_producer(replace(settings, compression=codec))))
    send(producer, name, values(1000))
    consumer.subscribe([name])
    assert [v for *_, v in read(consumer, 1000)] == values(1000)


def test_records_of_an_aborted_transaction_are_not_seen(
    settings: ClientSettings, consumer: Consumer, producer: Producer, topic: TopicFactory
) -> None:
    name = topic()
    writer = KafkaProducer(
        bootstrap_servers=settings.bootstrap_servers, transactional_id=f"tx-{uuid.uuid4().hex}"
    )
    writer.init_transactions()
    writer.begin_transaction()
    writer.send(name, b"aborted")
    writer.flush(WAIT_S)
    writer.abort_transaction()
    writer.begin_transaction()
    writer.send(name, b"committed")
    writer.commit_transaction()
    writer.close()
    send(producer, name, [b"plain"])
    consumer.subscribe([name])
    assert [v for *_, v in read(consumer, 2)] == [b"committed", b"plain"]


def test_a_new_group_may_start_at_the_end(
    settings: ClientSettings, producer: Producer, topic: TopicFactory, resources: ExitStack
) -> None:
    name = topic()
    send(producer, name, values(10))
    consumer = resources.enter_context(closing(open_consumer(replace(settings, start_from="latest"))))
    consumer.subscribe([name])
    got: list[Row] = []

    def one_arrived() -> bool:
        got.extend(rows(consumer.poll(10, 0.2)))
        if not got:
            send(producer, name, [b"new"])
        return bool(got)

    until(one_arrived, "a record written after the start")
    assert {v for *_, v in got} == {b"new"}


# --- committing ----------------------------------------------------------------------------------


def test_a_restart_resumes_exactly_after_what_was_committed(
    settings: ClientSettings, producer: Producer, topic: TopicFactory
) -> None:
    name = topic(partitions=2)
    producer.send(name, [b"%d" % i for i in range(200)], values(200))
    producer.flush(WAIT_S)
    with closing(open_consumer(settings)) as first:
        first.subscribe([name])
        done = read(first, 200, max_records=64)[:120]
        first.commit(next_offsets(done))
    with closing(open_consumer(settings)) as second:
        second.subscribe([name])
        again = read(second, 80)
    assert {v for *_, v in again} == set(values(200)) - {v for *_, v in done}


def test_what_was_not_committed_comes_again(
    settings: ClientSettings, producer: Producer, topic: TopicFactory
) -> None:
    name = topic()
    send(producer, name, values(20))
    for _ in range(2):
        with closing(open_consumer(settings)) as consumer:
            consumer.subscribe([name])
            assert [v for *_, v in read(consumer, 20)] == values(20)


def test_seeking_to_committed_reads_the_rest_again(
    consumer: Consumer, producer: Producer, topic: TopicFactory
) -> None:
    name = topic()
    send(producer, name, values(30))
    consumer.subscribe([name])
    read(consumer, 30)
    consumer.seek_to_committed()
    assert [v for *_, v in read(consumer, 30)] == values(30)
    assert consumer.committed([Source(name, 0)]) == {}
    consumer.commit({Source(name, 0): 10})
    assert consumer.committed([Source(name, 0)]) == {Source(name, 0): Committed(10, "")}
    consumer.commit({Source(name, 0): 10}, {Source(name, 0): "30"})
    assert consumer.committed([Source(name, 0)]) == {Source(name, 0): Committed(10, "30")}
    consumer.seek_to_committed()
    assert [v for *_, v in read(consumer, 20)] == values(20, start=10)


@pytest.mark.parametrize("note", ["2", "1234567", "12345678901234567890", "é" * 150])
@pytest.mark.parametrize("reader", ["kafka-python", "confluent"])
def test_a_note_is_read_as_it_was_committed(
    settings: ClientSettings, topic: TopicFactory, resources: ExitStack, reader: ClientName, note: str
) -> None:
    sources = [Source(topic(partitions=2), partition) for partition in range(2)]
    writer = resources.enter_context(closing(open_consumer(settings)))
    writer.subscribe([sources[0].topic])
    until(lambda: writer.poll(10, 0.2) is not None and len(writer.assigned()) == 2, "both partitions")
    writer.commit(dict.fromkeys(sources, 7), {sources[0]: note})
    consumer = resources.enter_context(closing(open_consumer(replace(settings, client=reader))))
    for _ in range(10):
        # What a library written in C reads beyond the end of a note is whatever was there before.
        leave_digits_in_freed_memory()
        assert consumer.committed(sources) == {sources[0]: Committed(7, note), sources[1]: Committed(7, "")}


def leave_digits_in_freed_memory() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    for size in range(24, 700, 16):
        taken = [ctypes.c_void_p(libc.malloc(size)) for _ in range(7)]
        for chunk in taken:
            ctypes.memset(chunk, ord("9"), size)
        for chunk in taken:
            libc.free(chunk)


@pytest.mark.parametrize("before", ["kafka-python", "confluent"])
def test_a_group_that_left_notes_is_joined_again(
    settings: ClientSettings, producer: Producer, topic: TopicFactory, before: ClientName
) -> None:
    name = topic()
    send(producer, name, values(10))
    with closing(open_consumer(replace(settings, client=before))) as first:
        first.subscribe([name])
        read(first, 10)
        first.commit({Source(name, 0): 4}, {Source(name, 0): "é" * 20})
    with closing(open_consumer(settings)) as second:
        second.subscribe([name])
        leave_digits_in_freed_memory()
        assert [v for *_, v in read(second, 6)] == values(6, start=4)
        leave_digits_in_freed_memory()
        second.seek_to_committed()
        assert [v for *_, v in read(second, 6)] == values(6, start=4)


def test_a_commit_by_somebody_who_left_the_group_is_an_error(
    settings: ClientSettings, producer: Producer, topic: TopicFactory, resources: ExitStack
) -> None:
    name = topic()
    send(producer, name, values(5))
    slow = replace(settings, max_poll_interval_s=6.0)
    consumer = resources.enter_context(closing(open_consumer(slow)))
    consumer.subscribe([name])
    got = read(consumer, 5)
    other = resources.enter_context(closing(open_consumer(settings)))
    other.subscribe([name])
    # The other one can only get the partition once the first is thrown out for not polling.
    taken = read(other, 5)
    assert taken == got
    with pytest.raises(CommitError, match="come again"):
        consumer.commit(next_offsets(got))


# --- the group -----------------------------------------------------------------------------------


def test_a_second_member_takes_half_and_gives_it_back(
    settings: ClientSettings, producer: Producer, topic: TopicFactory, resources: ExitStack
) -> None:
    name = topic(partitions=4)
    everything = {Source(name, p) for p in range(4)}
    first = resources.enter_context(closing(open_consumer(settings)))
    first.subscribe([name])
    until(lambda: first.poll(10, 0.2) is not None and first.assigned() == everything, "all partitions")
    assert set(first.take_assigned()) == everything
    assert first.take_revoked() == []
    assert first.take_assigned() == []

    second = open_consumer(settings)
    second.subscribe([name])

    def shared() -> bool:
        first.poll(10, 0.1)
        second.poll(10, 0.1)
        return len(first.assigned()) == len(second.assigned()) == 2

    until(shared, "two partitions each")
    assert first.assigned() | second.assigned() == everything
    assert set(first.take_revoked()) == everything - first.assigned()
    # What stayed with the first is no news to it, although an eager rebalance took it for a moment.
    assert first.take_assigned() == []
    assert set(second.take_assigned()) == second.assigned()

    gone = second.assigned()
    second.close()
    until(lambda: first.poll(10, 0.2) is not None and first.assigned() == everything, "all partitions again")
    assert set(first.take_assigned()) == gone
    assert first.take_revoked() == []


def test_a_rebalance_neither_loses_nor_repeats_what_was_committed(
    settings: ClientSettings, producer: Producer, topic: TopicFactory, resources: ExitStack
) -> None:
    name = topic(partitions=4)
    producer.send(name, [b"%d" % i for i in range(400)], values(400))
    producer.flush(WAIT_S)
    first = resources.enter_context(closing(open_consumer(settings)))
    first.subscribe([name])
    got: list[Row] = []

    def step(consumer: Consumer) -> int:
        polled = rows(consumer.poll(10, 0.1))
        consumer.commit(next_offsets(polled))
        got.extend(polled)
        return len(got)

    until(lambda: step(first) >= 50, "some records")
    second = resources.enter_context(closing(open_consumer(settings)))
    second.subscribe([name])

    def all_read() -> bool:
        step(first)
        step(second)
        return len(got) >= 400 and bool(second.assigned())

    until(all_read, "every record")
    assert sorted(v or b"" for *_, v in got) == sorted(v or b"" for v in values(400))


def test_partitions_that_are_added_are_read_soon(
    settings: ClientSettings, producer: Producer, topic: TopicFactory, kafka_broker: RealBroker
) -> None:
    name = topic()
    send(producer, name, values(5))
    with closing(open_consumer(replace(settings, metadata_age_s=0.5))) as consumer:
        consumer.subscribe([name])
        consumer.commit(next_offsets(read(consumer, 5)))
        with closing(KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)) as admin:
            admin.create_partitions({name: 3})
        writer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers)
        writer.send(name, b"on a new one", partition=2)
        writer.close()
        assert [(source.partition, v) for source, _, _, v in read(consumer, 1)] == [(2, b"on a new one")]


def test_a_static_member_returns_to_its_partitions_without_a_rebalance(
    settings: ClientSettings, topic: TopicFactory, resources: ExitStack
) -> None:
    name = topic(partitions=2)
    static = replace(settings, instance_id="slot-1", session_timeout_s=20.0)
    other = resources.enter_context(closing(open_consumer(replace(static, instance_id="slot-2"))))
    other.subscribe([name])
    first = open_consumer(static)
    first.subscribe([name])

    def shared() -> bool:
        other.poll(10, 0.1)
        first.poll(10, 0.1)
        return len(other.assigned()) == len(first.assigned()) == 1

    until(shared, "one partition each")
    mine, theirs = first.assigned(), other.assigned()
    other.take_assigned(), other.take_revoked()
    first.close()
    again = resources.enter_context(closing(open_consumer(static)))
    again.subscribe([name])

    def back() -> bool:
        other.poll(10, 0.1)
        again.poll(10, 0.1)
        return bool(again.assigned())

    until(back, "its partition")
    assert again.assigned() == mine
    assert other.assigned() == theirs
    assert (other.take_assigned(), other.take_revoked()) == ([], [])


def test_a_member_whose_instance_id_another_one_has_ends_although_nothing_comes(
    settings: ClientSettings, topic: TopicFactory, resources: ExitStack
) -> None:
    name = topic()
    static = replace(settings, instance_id="slot-1")
    first = resources.enter_context(closing(open_consumer(static)))
    first.subscribe([name])
    until(lambda: first.poll(10, 0.2) is not None and bool(first.assigned()), "the partition")
    second = resources.enter_context(closing(open_consumer(static)))
    second.subscribe([name])
    told: list[InstanceIdTakenError] = []

    def ended() -> bool:
        second.poll(10, 0.1)
        try:
            first.poll(10, 0.1)
        except InstanceIdTakenError as error:
            told.append(error)
        return bool(told)

    until(ended, "the end of the first")
    assert "instance id" in str(told[0])
    assert told[0].exit_code == 2
    assert second.assigned() == {Source(name, 0)}


def test_both_clients_may_serve_one_group(
    client: ClientName, settings: ClientSettings, topic: TopicFactory, resources: ExitStack
) -> None:
    name = topic(partitions=2)
    other: ClientName = "confluent" if client == "kafka-python" else "kafka-python"
    first = resources.enter_context(closing(open_consumer(settings)))
    first.subscribe([name])
    until(lambda: first.poll(10, 0.2) is not None and len(first.assigned()) == 2, "both partitions")
    second = resources.enter_context(closing(open_consumer(replace(settings, client=other))))
    second.subscribe([name])

    def shared() -> bool:
        first.poll(10, 0.1)
        second.poll(10, 0.1)
        return len(first.assigned()) == len(second.assigned()) == 1

    until(shared, "one partition each")


def test_lag_is_what_is_left_to_read(consumer: Consumer, producer: Producer, topic: TopicFactory) -> None:
    name = topic()
    source = Source(name, 0)
    send(producer, name, values(100))
    consumer.subscribe([name])
    polled: list[RawRecords] = []

    def some() -> bool:
        polled.append(consumer.poll(30, 0.2))
        return len(polled[-1]) > 0

    until(some, "records")
    assert consumer.lag() == {source: 100 - len(polled[-1])}
    read(consumer, 100 - len(polled[-1]))
    assert consumer.lag() == {source: 0}
    send(producer, name, values(5))
    read(consumer, 5)
    assert consumer.lag() == {source: 0}


def test_lag_is_known_before_the_first_record(
    settings: ClientSettings, producer: Producer, topic: TopicFactory
) -> None:
    name = topic()
    send(producer, name, values(10))
    with closing(open_consumer(settings)) as first:
        first.subscribe([name])
        read(first, 10)
        first.commit({Source(name, 0): 10})
    with closing(open_consumer(settings)) as second:
        second.subscribe([name])
        until(lambda: second.poll(10, 0.2) is not None and bool(second.lag()), "a lag")
        assert second.lag() == {Source(name, 0): 0}


# --- writing -------------------------------------------------------------------------------------


def test_after_a_flush_the_broker_holds_every_record(
    settings: ClientSettings, producer: Producer, topic: TopicFactory
) -> None:
    name = topic(partitions=3)
    producer.send(name, [b"%d" % i for i in range(3000)], values(3000))
    producer.flush(WAIT_S)
    # Read by somebody else, while the writer still lives and can have been given no further time.
    held = [v for raw in read_range(settings, [name], 0.0, time.time() + 60.0) for v in raw.value]
    assert sorted(v or b"" for v in held) == sorted(v or b"" for v in values(3000))


def test_a_key_goes_where_kafka_itself_would_put_it(
    settings: ClientSettings, producer: Producer, topic: TopicFactory
) -> None:
    name = topic(partitions=7)
    keys = [uuid.uuid5(uuid.NAMESPACE_DNS, str(i)).bytes[: i % 17] for i in range(200)]
    producer.send(name, keys, values(200))
    producer.flush(WAIT_S)
    plain = KafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    futures = [plain.send(name, b"", key) for key in keys]
    expected = {key: f.get(WAIT_S).partition for key, f in zip(keys, futures, strict=True)}
    plain.close()
    for raw in read_range(settings, [name], 0.0, time.time() + 60.0):
        for source, _, key, _ in rows(raw):
            assert key is not None
            assert source.partition == expected[key]


def test_an_oversized_record_is_refused_and_its_neighbours_arrive(
    settings: ClientSettings, producer: Producer, topic: TopicFactory
) -> None:
    name = topic()
    producer.send(name, [b"a", b"b", b"c"], [b"first", b"x" * 3_000_000, b"last"])
    with pytest.raises(DeliveryError, match=name) as refused:
        producer.flush(WAIT_S)
    assert (refused.value.refused, refused.value.pending) == (1, 0)
    producer.send(name, [b"d"], [b"later"])
    producer.flush(WAIT_S)
    held = [v for raw in read_range(settings, [name], 0.0, time.time() + 60.0) for v in raw.value]
    assert held == [b"first", b"last", b"later"]


def test_what_the_broker_refuses_is_reported(producer: Producer, topic: TopicFactory) -> None:
    name = topic(**{"max.message.bytes": "2000"})
    producer.send(name, [b"a"], [b"x" * 10_000])
    with pytest.raises(DeliveryError, match="1 records refused"):
        producer.flush(WAIT_S)


def test_what_is_refused_for_its_size_is_told_and_the_rest_can_be_sent_again(
    settings: ClientSettings, producer: Producer, topic: TopicFactory
) -> None:
    name, other = topic(**{"max.message.bytes": "2000"}), topic()
    producer.send(other, [b"o"], [b"other"])
    producer.send(name, [b"a", b"a"], [b"x" * 10_000, b"small"])
    refused: list[DeliveryError] = []

    def told() -> bool:
        try:
            producer.flush(0.5)
        except DeliveryError as error:
            refused.append(error)
        return any(error.refused for error in refused)

    until(told, "the refusal")
    assert refused[-1].too_large == {name}
    assert str(refused[-1])
    producer.send(name, [b"a"], [b"small"])
    producer.flush(WAIT_S)
    held = [v for raw in read_range(settings, [name, other], 0.0, time.time() + 60.0) for v in raw.value]
    assert set(held) == {b"other", b"small"}


def test_a_topic_name_that_kafka_cannot_hold_is_refused(consumer: Consumer, producer: Producer) -> None:
    for name in ("телеметрия", "", "a b", ".", "x" * 250):
        with pytest.raises(InvalidTopicError, match="a-z A-Z 0-9"):
            consumer.subscribe([name])
        with pytest.raises(InvalidTopicError, match="a-z A-Z 0-9"):
            producer.send(name, [b"k"], [b"v"])


def test_a_missing_topic_is_named(settings: ClientSettings, consumer: Consumer, topic: TopicFactory) -> None:
    there, missing = topic(), f"missing-{uuid.uuid4().hex[:8]}"
    with pytest.raises(TopicMissingError, match=missing):
        consumer.subscribe([there, missing])
    with (
        closing(open_producer(replace(settings, connect_timeout_s=1.5))) as producer,
        pytest.raises(TopicMissingError, match=missing),
    ):
        producer.send(missing, [b"k"], [b"v"])


def test_a_group_of_others_is_not_taken_for_unreadable_records(
    settings: ClientSettings, consumer: Consumer, topic: TopicFactory, resources: ExitStack
) -> None:
    name = topic()
    other = KafkaConsumer(
        name,
        bootstrap_servers=settings.bootstrap_servers,
        group_id=settings.group_id,
        partition_assignment_strategy=[RoundRobinPartitionAssignor],
    )
    resources.callback(other.close)

    def joined() -> bool:
        other.poll(200)
        return bool(other.assignment())

    until(joined, "that the other is in the group")
    consumer.subscribe([name])
    with pytest.raises(KafkaClientError, match=r"(?i)inconsistent.?group.?protocol") as refused:
        read(consumer, 1)
    assert refused.type is KafkaClientError


@pytest.mark.parametrize("flows", [True, False])
def test_a_topic_that_is_deleted_is_missed(
    settings: ClientSettings, producer: Producer, topic: TopicFactory, kafka_broker: RealBroker, flows: bool
) -> None:
    deleted, kept = topic(prefix="a"), topic(prefix="b")
    send(producer, deleted, values(5))
    send(producer, kept, values(5))
    with closing(open_consumer(replace(settings, metadata_age_s=0.5))) as consumer:
        consumer.subscribe([deleted, kept])
        read(consumer, 10)
        with closing(KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)) as admin:
            admin.delete_topics([deleted])
        told: list[str] = []

        def missed() -> bool:
            if flows:
                send(producer, kept, values(1))
            try:
                consumer.poll(10, 0.1)
            except TopicMissingError as error:
                told.append(str(error))
            return bool(told)

        until(missed, "that a topic is gone")
        assert deleted in told[0]
        assert kept not in told[0]


def test_a_topic_to_write_to_is_found_or_named(settings: ClientSettings, topic: TopicFactory) -> None:
    there, missing = topic(), f"missing-{uuid.uuid4().hex[:8]}"
    with closing(open_producer(replace(settings, connect_timeout_s=1.5))) as producer:
        producer.find(there)
        for _ in range(2):
            with pytest.raises(TopicMissingError, match=missing):
                producer.find(missing)
        with pytest.raises(InvalidTopicError, match="a-z A-Z 0-9"):
            producer.find("a b")


# --- a time range --------------------------------------------------------------------------------


def test_a_time_range_is_read_by_record_time_and_ends(settings: ClientSettings, topic: TopicFactory) -> None:
    name, other = topic(partitions=2), topic()
    writer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    start_ms = 1_700_000_000_000
    for i in range(100):
        writer.send(name, b"%d" % i, partition=i % 2, timestamp_ms=start_ms + i * 1000)
    # Late: behind records that lie after the range.
    writer.send(name, b"late", partition=0, timestamp_ms=start_ms + 45_500)
    writer.send(other, b"elsewhere", timestamp_ms=start_ms + 50_000)
    writer.close()

    begin = start_ms / 1000
    got = [row for raw in read_range(settings, [name, other], begin + 40, begin + 60) for row in rows(raw)]

    expected = [b"%d" % i for i in range(40, 60)]
    assert sorted(v or b"" for *_, v in got) == sorted([*expected, b"late", b"elsewhere"])
    for source in (Source(name, 0), Source(name, 1)):
        offsets = [offset for s, offset, *_ in got if s == source]
        assert offsets == sorted(offsets)
    assert list(read_range(settings, [name], begin + 4000, begin + 5000)) == []
    # A clock that is ahead, by however much, makes no record too new where no end is asked for.
    written = [value for raw in read_range(settings, [name], begin + 98) for value in raw.value]
    assert sorted(value or b"" for value in written) == [b"98", b"99"]


def test_a_time_range_of_a_missing_topic_is_an_error(settings: ClientSettings) -> None:
    with pytest.raises(TopicMissingError, match="nowhere"):
        list(read_range(settings, ["nowhere"], 0.0, 1.0))


# --- trouble -------------------------------------------------------------------------------------


def test_no_broker_at_the_start_is_told_in_time(client: ClientName) -> None:
    settings = ClientSettings(client, (f"127.0.0.1:{free_ports(1)[0]}",), connect_timeout_s=1.5)
    for opened in (open_consumer, open_producer):
        started = time.monotonic()
        with pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1"):
            opened(settings)
        assert time.monotonic() - started < 10.0


def test_a_flush_to_a_dead_broker_ends_in_time_and_succeeds_later(
    client: ClientName, own_broker: RealBroker, own_topic: str, group: str
) -> None:
    settings = settings_for(client, own_broker, group)
    with closing(open_producer(settings)) as producer:
        send(producer, own_topic, [b"before"])
        own_broker.kill()
        producer.send(own_topic, [b"k"], [b"during"])
        started = time.monotonic()
        with pytest.raises(DeliveryError, match="unacknowledged") as error:
            producer.flush(1.0)
        assert time.monotonic() - started < 10.0
        assert (error.value.refused, error.value.pending) == (0, 1)
        own_broker.start()
        producer.flush(WAIT_S)
    held = [v for raw in read_range(settings, [own_topic], 0.0, time.time() + 60.0) for v in raw.value]
    assert held == [b"before", b"during"]


def test_records_given_up_are_refused_and_the_producer_goes_on(
    client: ClientName, own_broker: RealBroker, own_topic: str, group: str
) -> None:
    settings = replace(settings_for(client, own_broker, group), delivery_timeout_s=5.0, request_timeout_s=3.0)
    with closing(open_producer(settings)) as producer:
        send(producer, own_topic, [b"before"])
        own_broker.kill()
        producer.send(own_topic, [b"k"], [b"given up"])
        with pytest.raises(DeliveryError, match="1 records refused"):
            producer.flush(WAIT_S)
        own_broker.start()

        def arrives() -> bool:
            producer.send(own_topic, [b"k"], [b"after"])
            try:
                producer.flush(5.0)
            except DeliveryError:
                return False
            return True

        until(arrives, "a delivery after the outage")
    held = [v for raw in read_range(settings, [own_topic], 0.0, time.time() + 60.0) for v in raw.value]
    assert held[0] == b"before"
    assert held[-1] == b"after"


def test_an_outage_is_reported_and_reading_resumes(
    client: ClientName, own_broker: RealBroker, own_topic: str, group: str
) -> None:
    settings = replace(settings_for(client, own_broker, group), commit_timeout_s=3.0)
    with (
        closing(open_producer(settings)) as producer,
        closing(open_consumer(settings)) as consumer,
    ):
        send(producer, own_topic, values(10))
        consumer.subscribe([own_topic])
        got = read(consumer, 10)
        consumer.commit(next_offsets(got))
        own_broker.kill()

        def reported() -> bool:
            try:
                consumer.poll(10, 0.5)
            except BrokerUnavailableError:
                return True
            return False

        until(reported, "the outage")
        with pytest.raises((CommitError, BrokerUnavailableError)):
            consumer.commit(next_offsets(got))
        own_broker.start()
        send(producer, own_topic, values(10, start=10))
        again: list[Row] = []

        def resumed() -> bool:
            try:
                polled = rows(consumer.poll(10, 0.5))
                consumer.commit(next_offsets(polled))
            except BrokerUnavailableError:
                return False
            # The group may have thrown us out meanwhile; then the records come again.
            except CommitError:
                consumer.seek_to_committed()
                return False
            again.extend(polled)
            return len(again) >= 10

        until(resumed, "the records after the outage")
        assert [v for *_, v in again] == values(10, start=10)


def test_closing_without_a_broker_ends_in_time(
    client: ClientName, own_broker: RealBroker, own_topic: str, group: str
) -> None:
    settings = settings_for(client, own_broker, group)
    producer, consumer = open_producer(settings), open_consumer(settings)
    send(producer, own_topic, values(3))
    consumer.subscribe([own_topic])
    read(consumer, 3)
    own_broker.kill()
    producer.send(own_topic, [b"k"], [b"never flushed"])
    started = time.monotonic()
    consumer.close()
    producer.close()
    assert time.monotonic() - started < 15.0


def test_records_gone_from_the_broker_are_reported_once(
    settings: ClientSettings, producer: Producer, topic: TopicFactory, kafka_broker: RealBroker
) -> None:
    name = topic()
    send(producer, name, values(20))
    with closing(open_consumer(settings)) as consumer:
        consumer.subscribe([name])
        read(consumer, 20)
        consumer.commit({Source(name, 0): 5})
    delete_records(kafka_broker, name, before=12)
    with closing(open_consumer(settings)) as consumer:
        consumer.subscribe([name])
        told: list[str] = []
        lost: list[dict[Source, int]] = []

        def reported() -> bool:
            try:
                assert len(consumer.poll(100, 0.2)) == 0
            except OffsetOutOfRangeError as error:
                told.append(str(error))
                lost.append(error.lost)
            return bool(told)

        until(reported, "the loss")
        assert f"{name}[0]@5" in told[0]
        assert lost == [{Source(name, 0): 7}]
        assert [v for *_, v in read(consumer, 8)] == values(8, start=12)


def test_where_no_offset_is_known_none_is_told(kafka_broker: RealBroker, topic: TopicFactory) -> None:
    source = Source(topic(), 0)
    with closing(ConfluentConsumer(settings_for("confluent", kafka_broker, "nobody"))) as consumer:
        consumer._next[source] = OFFSET_BEGINNING
        error = consumer._step_around(source, _OutOfRange())
    assert f"records wanted at {source.topic}[0] are gone" in str(error)
    assert isinstance(error, OffsetOutOfRangeError)
    assert error.lost == {}


class _OutOfRange:
    def error(self) -> KafkaError:
        return KafkaError(KafkaError._AUTO_OFFSET_RESET)


def test_a_batch_that_cannot_be_read_is_tried_again_and_then_passed_over(
    client: ClientName, own_broker: RealBroker, own_topic: str, group: str
) -> None:
    settings = settings_for(client, own_broker, group)
    # The oldest, one between others, and the newest.
    batches, bad = [values(3, start=3 * i) for i in range(5)], (0, 2, 4)
    with closing(open_producer(replace(settings, linger_s=30.0))) as producer:
        for of_batch in batches:
            send(producer, own_topic, of_batch)
    own_broker.stop()
    break_batches(own_broker.log_dir / f"{own_topic}-0" / f"{0:020d}.log", bad)
    own_broker.start()
    with closing(open_consumer(settings)) as consumer:
        consumer.subscribe([own_topic])
        got: list[bytes | None] = []
        failures: list[FetchError | UnreadableBatchError] = []

        def all_read_or_passed() -> bool:
            try:
                got.extend(v for *_, v in rows(consumer.poll(10, 0.2)))
            except (FetchError, UnreadableBatchError) as error:
                failures.append(error)
            passed = sum(isinstance(failure, UnreadableBatchError) for failure in failures)
            return len(got) + 3 * passed == 3 * len(batches)

        until(all_read_or_passed, "all other records")
        assert got == [v for i, of_batch in enumerate(batches) if i not in bad for v in of_batch]
        source = Source(own_topic, 0)
        for i in bad:
            tries = [failures.pop(0) for _ in range(TRIES)]
            assert all(type(failure) is FetchError for failure in tries[:-1])
            assert f"{own_topic}[0]@{3 * i}" in str(tries[0])
            last = tries[-1]
            assert isinstance(last, UnreadableBatchError)
            assert last.passed == {source: range(3 * i, 3 * i + 3)}
        assert not failures
        send_behind = values(2, start=100)
        with closing(open_producer(settings)) as producer:
            send(producer, own_topic, send_behind)
        assert [v for *_, v in read(consumer, 2)] == send_behind
    told = read_range(settings, [own_topic], 0.0, time.time() + 60.0)
    assert [v for raw in told for v in raw.value] == [*got, *send_behind]


def test_a_broken_batch_is_let_go_of_while_the_group_is_busy(
    own_broker: RealBroker, own_topic: str, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for("kafka-python", own_broker, group)
    with closing(open_producer(replace(settings, linger_s=30.0))) as producer:
        send(producer, own_topic, values(3))
        send(producer, own_topic, values(3, start=3))
    own_broker.stop()
    break_batches(own_broker.log_dir / f"{own_topic}-0" / f"{0:020d}.log", [0])
    own_broker.start()
    with closing(KafkaPythonConsumer(settings)) as consumer:
        coordinator = consumer._consumer._coordinator
        with_group = coordinator.poll
        monkeypatch.setattr(coordinator, "poll", lambda timeout_ms: timeout_ms > 0 and with_group(timeout_ms))
        consumer.subscribe([own_topic])
        failures: list[FetchError | UnreadableBatchError] = []

        def passed_over() -> bool:
            try:
                consumer.poll(10, 0.2)
            except (FetchError, UnreadableBatchError) as error:
                failures.append(error)
            return len(failures) == TRIES

        until(passed_over, "the broken batch")
        assert isinstance(failures[-1], UnreadableBatchError)
        assert [v for *_, v in read(consumer, 3)] == values(3, start=3)


def test_only_what_cannot_be_read_is_passed_over(own_broker: RealBroker, own_topic: str, group: str) -> None:
    settings = settings_for("kafka-python", own_broker, group)
    sizes = [1, 700, 300, 1, 1000, 40]
    starts = np.cumsum([0, *sizes]).tolist()
    with closing(open_producer(replace(settings, linger_s=30.0, compression="gzip"))) as producer:
        for start, size in zip(starts, sizes, strict=False):
            send(producer, own_topic, values(size, start=start))
    own_broker.stop()
    break_batches(own_broker.log_dir / f"{own_topic}-0" / f"{0:020d}.log", (1, 4))
    own_broker.start()
    source = Source(own_topic, 0)
    for position in range(0, starts[-1] + 1, 77):
        batch = int(np.searchsorted(starts, position, side="right")) - 1
        expected = {source: range(position, starts[batch + 1])} if batch in (1, 4) else {}
        assert unreadable_batches(settings, {source: position}) == expected


def break_batches(segment: Path, bad: Collection[int]) -> None:
    """Turn bits of these batches of a log, counted from its beginning."""
    log = bytearray(segment.read_bytes())
    at = batch = 0
    while at < len(log):
        (length,) = struct.unpack_from(">i", log, at + 8)
        if batch in bad:
            log[at + 12 + length - 2] ^= 0x55
        at, batch = at + 12 + length, batch + 1
    segment.write_bytes(log)


def delete_records(broker: RealBroker, topic: str, before: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    try:
        admin.delete_records({TopicPartition(topic, 0): before}, timeout_ms=20_000)
    finally:
        admin.close()
