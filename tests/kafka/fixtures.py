"""Fixtures of every test that talks to the real broker; loaded by tests/conftest.py."""

import uuid
from collections.abc import Callable, Iterator

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from tests.kafka.broker import RealBroker

TopicFactory = Callable[..., str]


def pytest_configure(config: pytest.Config) -> None:
    """Let kafka-python leave sockets of refused connections to the garbage collector."""
    for kind in ("socket", "ssl"):
        config.addinivalue_line("filterwarnings", f"ignore:unclosed <{kind}:ResourceWarning")


def create_topic(broker: RealBroker, name: str, partitions: int, **config: str) -> None:
    """Create a topic and return when the broker has done it."""
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    try:
        admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)], timeout_ms=20_000)
    finally:
        admin.close()


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[RealBroker]:
    """One real Kafka for the whole session; tests that kill a broker start their own."""
    with RealBroker() as broker:
        yield broker


@pytest.fixture
def topic(kafka_broker: RealBroker) -> TopicFactory:
    """Create topics nobody else uses: ``topic(partitions=4, **{"max.message.bytes": "1000"})``."""

    def create(partitions: int = 1, prefix: str = "topic", **config: str) -> str:
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        create_topic(kafka_broker, name, partitions, **config)
        return name

    return create


@pytest.fixture
def group() -> str:
    """A consumer group nobody else uses."""
    return f"group-{uuid.uuid4().hex[:12]}"
