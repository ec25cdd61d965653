"""What every process says of itself that reads a topic in a loop: lag, partitions, broker, heartbeat."""

from collections.abc import Mapping

from prometheus_client import Gauge

from detector.batch import Source
from detector.web.health import Health


class ConsumerMetrics:
    """The part of a loop's observer that does not depend on what is read."""

    def __init__(self, health: Health, lag: Gauge, partitions: Gauge, broker: Gauge) -> None:
        """Args:
        health: Told of heartbeat, broker and assignment.
        lag: Of each partition, by topic and partition.
        partitions: How many are owned.
        broker: Whether it answers and takes what is written.
        """
        self._health = health
        self._lag = lag
        self._lag_labels: set[Source] = set()
        self._partitions = partitions
        self._broker = broker

    def lag(self, lag: Mapping[Source, int]) -> None:
        """Replace the lag of the assigned partitions."""
        for source in self._lag_labels - lag.keys():
            self._lag.remove(source.topic, str(source.partition))
        for source, records in lag.items():
            self._lag.labels(source.topic, str(source.partition)).set(records)
        self._lag_labels = set(lag)

    def assigned(self, partitions: int) -> None:
        """Set how many partitions this process owns."""
        self._partitions.set(partitions)
        self._health.assigned_partitions = partitions

    def broker(self, reachable: bool, problem: str = "") -> None:
        """Set whether Kafka works, and why not."""
        self._broker.set(reachable)
        self._health.broker_problem = problem
        self._health.broker_reachable = reachable

    def heartbeat(self, monotonic_s: float) -> None:
        """Note that the loop is alive."""
        self._health.heartbeat(monotonic_s)
