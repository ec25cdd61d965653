"""A Kafka broker inside this process, for demonstration only: librdkafka's mock cluster.

It is made for testing clients, not for keeping data. What it cannot do, or does silently:

- Each partition keeps 5 MiB or 100,000 batches; **older records vanish without a word**. Whoever writes has
  to wait for whoever reads.
- Nothing is on disk, and everything is gone with the process, or on ``close()``.
- Every topic has 4 partitions. There are no transactions, no ACLs, no TLS, no look-up of offsets by time.
- A group that lost a member without goodbye waits for its session to end; sessions below 6 s never form.
"""

import time
from types import TracebackType
from typing import Any, Self

from detector.extras import how_to_install
from detector.stream.port import (
    BrokerUnavailableError,
    ClientName,
    ClientSettings,
    ClientSettingsError,
    check_topics,
)

PARTITIONS = 4
SESSION_TIMEOUT_S = 6.0
_START_TIMEOUT_S = 10.0


class EmbeddedBroker:
    """Runs from construction to ``close()``; any process of this machine can connect.

    Raises:
        ClientSettingsError: confluent-kafka, which holds librdkafka, is not installed.
        BrokerUnavailableError: It did not come up within ten seconds.
    """

    def __init__(self) -> None:
        try:
            from confluent_kafka import KafkaException, Producer
        except ImportError as error:
            raise ClientSettingsError(
                f"the embedded broker is part of confluent-kafka; {how_to_install('confluent')}"
            ) from error
        # The broker belongs to a client, and this one does nothing else but make topics.
        self._owner: Any = Producer({"test.mock.num.brokers": 1, "log_level": 2})
        try:
            brokers = self._owner.list_topics(timeout=_START_TIMEOUT_S).brokers.values()
        except KafkaException as error:
            raise BrokerUnavailableError(f"the embedded broker did not start: {error}") from error
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def create_topics(self, *topics: str) -> None:
        """Return once each topic has its partitions; one that exists is left as it is."""
        check_topics(topics)
        deadline = time.monotonic() + _START_TIMEOUT_S
        for topic in topics:
            while not self._owner.list_topics(topic, _START_TIMEOUT_S).topics[topic].partitions:
                if time.monotonic() > deadline:
                    raise BrokerUnavailableError(f"the embedded broker did not make topic {topic!r}")
                time.sleep(0.02)

    def client_settings(self, client: ClientName = "confluent", group_id: str = "detector") -> ClientSettings:
        """Return settings with which that client works here."""
        return ClientSettings(
            client=client,
            bootstrap_servers=(self.bootstrap_servers,),
            group_id=group_id,
            session_timeout_s=SESSION_TIMEOUT_S,
            # kafka-python cannot find out by itself what this broker speaks.
            api_version=(2, 3),
        )

    def close(self) -> None:
        """Stop it; its records are gone."""
        self._owner = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
