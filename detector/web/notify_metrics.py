"""All metrics of the deliverer in one object: what its loop and its receivers report."""

import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)

from detector import __version__
from detector.web.consumer_metrics import ConsumerMetrics
from detector.web.health import Health


class NotifyMetrics(ConsumerMetrics):
    """The deliverer's observer on Prometheus metrics. Written by many threads."""

    def __init__(self, registry: CollectorRegistry, health: Health) -> None:
        """Register every metric.

        Args:
            registry: Where; a test has its own.
            health: Told of heartbeat, broker and assignment.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call]

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, labels, registry=registry)

        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(name, documentation, labels, registry=registry)

        super().__init__(
            health,
            lag=gauge(
                "detector_notify_consumer_lag_records",
                "Events behind the high watermark.",
                "topic",
                "partition",
            ),
            partitions=gauge("detector_notify_assigned_partitions", "Partitions that this process owns."),
            broker=gauge("detector_notify_broker_reachable", "Whether the broker answered last time."),
        )
        self._read = counter(
            "detector_notify_events_total", "Alert events read, by what they were.", "outcome"
        )
        self._expired = counter(
            "detector_notify_expired_total", "Episodes taken to be over because nothing was heard of them."
        )
        self._requests = counter(
            "detector_notify_requests_total",
            "Requests sent to a receiver, by what came of them; repetitions of what fires are requests too.",
            "receiver",
            "address",
            "outcome",
        )
        self._notifications = counter(
            "detector_notify_notifications_total",
            "Notifications that are done with, by how they ended: all but delivered are dead letters.",
            "receiver",
            "address",
            "outcome",
        )
        self._waiting = gauge(
            "detector_notify_waiting_notifications",
            "Notifications that a receiver does not have yet.",
            "receiver",
            "address",
        )
        self._oldest = gauge(
            "detector_notify_oldest_waiting_seconds",
            "Since when the oldest of them waits.",
            "receiver",
            "address",
        )
        self._open = gauge("detector_notify_open_episodes", "Episodes that fire.")
        # From 0 on, or the first would be no increase to Prometheus.
        self._read.labels("unreadable")
        build = gauge("detector_notify_build_info", "The running version, as a label; always 1.", "version")
        build.labels(__version__).set(1)
        gauge("detector_notify_start_time_seconds", "When the process started.").set(time.time())
        age = gauge("detector_notify_heartbeat_age_seconds", "Time since the loop last made progress.")
        age.set_function(health.heartbeat_age_s)
        ProcessCollector(registry=registry)

    def receiver_added(self, receiver: str, address: str) -> None:
        """Let a receiver's series begin at 0, so that the first failure is an increase."""
        for outcome in ("delivered", "refused", "gave_up", "overflow"):
            self._notifications.labels(receiver, address, outcome)
        self.waiting(receiver, address, 0, 0.0)

    # --- the deliverer's observer -------------------------------------------------------------

    def read(self, outcome: str) -> None:
        """Count an event read."""
        self._read.labels(str(outcome)).inc()

    def expired(self) -> None:
        """Count an episode that was taken to be over."""
        self._expired.inc()

    def attempted(self, receiver: str, address: str, outcome: str) -> None:
        """Count a request."""
        self._requests.labels(receiver, address, str(outcome)).inc()

    def finished(self, receiver: str, address: str, ending: str) -> None:
        """Count a notification that needs no more attempts."""
        self._notifications.labels(receiver, address, str(ending)).inc()

    def waiting(self, receiver: str, address: str, notifications: int, oldest_s: float) -> None:
        """Set how many wait, and since when."""
        self._waiting.labels(receiver, address).set(notifications)
        self._oldest.labels(receiver, address).set(oldest_s)

    def open_episodes(self, episodes: int) -> None:
        """Set how many fire."""
        self._open.set(episodes)
