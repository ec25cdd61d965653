"""Tests for detector.web.notify_metrics."""

import inspect
import subprocess

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from detector.batch import Source
from detector.delivery.mailbox import Ending
from detector.delivery.observer import DeliveryObserver
from detector.web.health import Health
from detector.web.notify_metrics import NotifyMetrics
from tests.web.made_up import every_delivery_reported


def test_it_is_the_observer_of_the_deliverer() -> None:
    metrics: DeliveryObserver = NotifyMetrics(CollectorRegistry(), Health())
    for name, method in inspect.getmembers(DeliveryObserver, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(type(metrics), name)) == inspect.signature(method)


def test_prometheus_likes_the_page(promtool: str) -> None:
    page = generate_latest(every_delivery_reported())
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_ending_has_a_series_before_it_happens() -> None:
    registry = CollectorRegistry()
    NotifyMetrics(registry, Health()).receiver_added("am", "am:9093")
    for ending in Ending:
        labels = {"receiver": "am", "address": "am:9093", "outcome": ending.value}
        assert registry.get_sample_value("detector_notify_notifications_total", labels) == 0


def test_events_that_cannot_be_read_have_a_series_before_there_are_any() -> None:
    registry = CollectorRegistry()
    NotifyMetrics(registry, Health())
    assert registry.get_sample_value("detector_notify_events_total", {"outcome": "unreadable"}) == 0


def test_lag_of_partitions_that_went_is_gone() -> None:
    registry = CollectorRegistry()
    metrics = NotifyMetrics(registry, Health())
    metrics.lag({Source("t", 0): 5, Source("t", 1): 6})
    metrics.lag({Source("t", 1): 7})
    name = "detector_notify_consumer_lag_records"
    assert registry.get_sample_value(name, {"topic": "t", "partition": "0"}) is None
    assert registry.get_sample_value(name, {"topic": "t", "partition": "1"}) == 7


@pytest.mark.parametrize("partitions", [0, 1])
def test_health_hears_of_broker_and_partitions(partitions: int) -> None:
    health = Health()
    health.models_loaded = True
    metrics = NotifyMetrics(CollectorRegistry(), health)
    metrics.broker(True)
    metrics.assigned(partitions)
    assert ("partitions" in health.missing()) == (partitions == 0)
