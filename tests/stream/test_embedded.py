"""Tests for detector.stream.embedded."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from detector.batch import Source
from detector.stream.port import ClientName, InvalidTopicError, open_consumer, open_producer

pytest.importorskip("confluent_kafka", reason="the embedded broker is part of confluent-kafka")

from detector.stream.embedded import PARTITIONS, EmbeddedBroker

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as embedded:
        yield embedded


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_both_clients_write_read_and_commit(broker: EmbeddedBroker, client: ClientName) -> None:
    topic = f"topic-{client}"
    settings = broker.client_settings(client, group_id=f"group-{client}")
    sent = [b"%d" % i for i in range(500)]
    broker.create_topics(topic)
    with closing(open_producer(settings)) as producer, closing(open_consumer(settings)) as consumer:
        producer.send(topic, [b"%d" % (i % 10) for i in range(500)], sent)
        producer.flush(20.0)
        consumer.subscribe([topic])
        got: list[bytes | None] = []
        deadline = time.monotonic() + 40.0
        while len(got) < 500 and time.monotonic() < deadline:
            raw = consumer.poll(1000, 0.2)
            got += raw.value
            if len(raw):
                consumer.commit(
                    {raw.sources[s]: int(o) + 1 for s, o in zip(raw.source, raw.offset, strict=True)}
                )
        assert sorted(v or b"" for v in got) == sorted(sent)
        assert consumer.assigned() == {Source(topic, p) for p in range(PARTITIONS)}
        assert set(consumer.lag().values()) == {0}


def test_a_topic_can_be_made_twice(broker: EmbeddedBroker) -> None:
    broker.create_topics("once")
    broker.create_topics("once", "more")


def test_a_bad_topic_name_is_refused(broker: EmbeddedBroker) -> None:
    with pytest.raises(InvalidTopicError):
        broker.create_topics("no spaces")


def test_nothing_listens_after_it_is_closed() -> None:
    broker = EmbeddedBroker()
    host, port = broker.bootstrap_servers.rsplit(":", 1)
    socket.create_connection((host, int(port)), timeout=5.0).close()
    broker.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), timeout=5.0)
