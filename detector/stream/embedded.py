"""An embedded broker, for demonstration only: librdkafka's mock cluster, without a server to install.

It lives and dies with its process and keeps everything in memory: 5 MiB or 100,000 batches per partition,
beyond which it drops the oldest records **without a word**, so a producer has to keep in step with whoever
reads. It knows no transactions and no topic administration; a topic comes into being, with four partitions,
when it is first asked for. Never a place for data that matters.
"""

from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException, Producer

from detector.stream.port import BrokerUnavailableError

_TIMEOUT_S = 10.0


class EmbeddedBroker:
    """One mock broker on a free port of 127.0.0.1, from ``with`` until its end."""

    def __init__(self) -> None:
        self._host: Producer | None = None
        self.bootstrap_servers = ""
        """``host:port``, once started."""

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            BrokerUnavailableError: It did not answer; a library without mock support, perhaps.
        """
        host = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        try:
            brokers = host.list_topics(timeout=_TIMEOUT_S).brokers
        except KafkaException as error:
            raise BrokerUnavailableError(f"the embedded broker did not start: {error}") from error
        broker = next(iter(brokers.values()))
        self._host = host
        self.bootstrap_servers = f"{broker.host}:{broker.port}"
        return self

    def create_topics(self, *topics: str) -> None:
        """Bring topics into being, four partitions each: a look-up does it.

        Raises:
            BrokerUnavailableError: The broker is not running.
        """
        if self._host is None:
            raise BrokerUnavailableError("the embedded broker is not running; enter it first")
        visitor = Producer({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        for topic in topics:
            visitor.list_topics(topic, timeout=_TIMEOUT_S)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The cluster goes with the last reference to the producer that hosts it.
        self._host = None
