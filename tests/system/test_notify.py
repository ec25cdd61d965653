"""The installed ``detector notify`` between a real Kafka and a real Alertmanager."""

import base64
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detector.alerting.event import AlertEvent
from detector.delivery.notification import fingerprint
from detector.delivery.webhook import signature
from detector.stream.port import ClientName, open_producer
from tests.delivery.events import encoded, event
from tests.delivery.http_server import FakeReceiver, Reply
from tests.kafka.broker import RealBroker, free_ports
from tests.kafka.fixtures import create_topic
from tests.system.alertmanager import Alertmanager
from tests.system.conftest import settings_of
from tests.system.process import Daemon, wait_until
from tests.system.telemetry import read_all

SECRET = f"whsec_{base64.b64encode(b'k' * 32).decode()}"

RESEND_S = 10.0
"""Alerts end at Alertmanager four times that after the deliverer's last word."""

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


class Told:
    """What a webhook behind Alertmanager was told."""

    def __init__(self, receiver: FakeReceiver) -> None:
        self._receiver = receiver

    def statuses(self) -> Counter[tuple[str, str]]:
        """Count notifications by entity and status."""
        return Counter(
            (alert["labels"]["entity"], alert["status"])
            for request in self._receiver.requests
            for alert in request.json()["alerts"]
        )

    def wait_for(self, entity: str, status: str, timeout_s: float = 60.0) -> dict[str, Any]:
        wait_until(lambda: self.statuses()[entity, status] > 0, timeout_s, f"{entity} {status}")
        found: dict[str, Any] = next(
            alert
            for request in self._receiver.requests
            for alert in request.json()["alerts"]
            if (alert["labels"]["entity"], alert["status"]) == (entity, status)
        )
        return found


class Topics:
    """The topics of one deliverer, and who writes alerts."""

    def __init__(self, broker: RealBroker) -> None:
        self.broker = broker
        self.alerts = f"alerts-{uuid.uuid4().hex[:8]}"
        self.dead_letters = f"{self.alerts}.dlq"
        create_topic(broker, self.alerts, 2)
        create_topic(broker, self.dead_letters, 1)

    def write(self, *events: AlertEvent) -> None:
        records = [encoded(event) for event in events]
        producer = open_producer(settings_of(self.broker))
        producer.send(
            self.alerts, [r.key for r in records], [r.value for r in records], [r.headers for r in records]
        )
        producer.flush(20.0)
        producer.close()


@pytest.fixture
def topics(kafka_broker: RealBroker) -> Topics:
    return Topics(kafka_broker)


@pytest.fixture
def behind() -> Iterator[FakeReceiver]:
    with FakeReceiver() as receiver:
        yield receiver


def configuration(
    topics: Topics, *alertmanagers: Alertmanager, client: ClientName = "kafka-python", **notify: Any
) -> dict[str, Any]:
    return {
        "kafka": {
            "bootstrap_servers": [topics.broker.bootstrap_servers],
            "client": client,
            "group_id": f"group-{topics.alerts}",
            "session_timeout": "6s",
            # So that a new process need not wait for the old one's session to end.
            "instance_id": "replica-0",
        },
        "inputs": [{"name": "telemetry", "topics": ["telemetry"]}],
        "detectors": [{"name": "hosts", "input": "telemetry", "features": ["cpu"]}],
        "outputs": {"alerts_topic": topics.alerts, "dead_letter_topic": topics.dead_letters},
        "notify": {
            "alertmanagers": [{"urls": [manager.url for manager in alertmanagers], "resend": f"{RESEND_S}s"}],
            **notify,
        },
    }


def test_killed_in_mid_episode_it_tells_a_cluster_once_that_it_fires_and_once_that_it_is_over(
    topics: Topics, behind: FakeReceiver, tmp_path: Path
) -> None:
    told, now_s = Told(behind), time.time()
    ports = free_ports(3)
    with ExitStack() as cluster:
        replicas = [
            cluster.enter_context(
                Alertmanager(
                    tmp_path / f"am-{i}", behind.url, cluster=[ports[i], *ports[:i], *ports[i + 1 :]]
                )
            )
            for i in range(3)
        ]
        wait_until(lambda: all(replica.peers() == 3 for replica in replicas), 60.0, "a cluster of three")
        config = configuration(topics, *replicas)
        with Daemon(config, tmp_path, "notify") as first:
            first.wait_until_ready()
            topics.write(event("firing", now_s))
            fired = told.wait_for("web-17", "firing")
            first.process.send_signal(signal.SIGKILL)
            first.process.wait(30)
            killed_s = time.time()
        assert fired["annotations"]["summary"] == "web-17: cpu 0.97, expected 0.31 ± 0.06 (12.4 nats)"
        labels = {name: text for name, text in fired["labels"].items() if name != "entity"}
        assert labels == {
            "alertname": "DetectorAnomaly",
            "detector": "hosts",
            "severity": "warning",
            "team": "shop",
        }
        assert fired["fingerprint"] == fingerprint(fired["labels"])
        replicas[0].stop()
        with Daemon(config, tmp_path, "notify") as second:
            second.wait_until_ready()
            wait_until(
                lambda: all(r.ends_s("web-17") > killed_s + 4.0 * RESEND_S for r in replicas[1:]),
                60.0,
                "it is repeated, so it does not end with the one that was killed",
            )
            assert told.statuses() == {("web-17", "firing"): 1}
            topics.write(event("resolved", time.time(), start_s=now_s))
            told.wait_for("web-17", "resolved")
            # What a second replica says as well, or what is repeated, comes before all of this.
            marker_s = time.time()
            topics.write(event("firing", marker_s, "marker"))
            told.wait_for("marker", "firing")
            topics.write(event("resolved", time.time(), "marker", start_s=marker_s))
            told.wait_for("marker", "resolved")
            assert second.terminate() == 0, second.log()

    both = ("firing", "resolved")
    assert told.statuses() == {(entity, status): 1 for entity in ("web-17", "marker") for status in both}


def test_an_alertmanager_that_was_away_is_told_and_silence_is_an_end(
    topics: Topics, behind: FakeReceiver, tmp_path: Path
) -> None:
    told, manager = Told(behind), Alertmanager(tmp_path / "am", behind.url)
    hook = FakeReceiver(lambda request: Reply(302, (("Location", behind.url),)))
    with ExitStack() as resources:
        resources.enter_context(hook)
        config = configuration(
            topics,
            manager,
            client="confluent",
            webhooks=[{"name": "moved", "url": hook.url, "secret": SECRET, "bearer_token": "hunter2"}],
        )
        daemon = resources.enter_context(Daemon(config, tmp_path, "notify"))
        daemon.wait_until_ready()
        began_s = time.time()
        topics.write(
            event("firing", time.time() - 7200.0, "history"),
            event("resolved", time.time() - 3600.0, "history"),
            event("firing", began_s, "db-1"),
        )
        [attempt] = hook.wait_for(1)
        assert attempt.headers["authorization"] == "Bearer hunter2"
        signed = attempt.headers["webhook-id"], int(attempt.headers["webhook-timestamp"]), attempt.body
        assert attempt.headers["webhook-signature"] == signature(b"k" * 32, *signed)
        wait_until(
            lambda: daemon.metric("detector_notify_requests_total", outcome="connection") > 0,
            30.0,
            "an attempt at the Alertmanager that is away",
        )
        assert daemon.get("/-/ready")[0] == 200
        wait_until(lambda: daemon.metric("detector_notify_open_episodes") == 1, 30.0, "an open episode")
        resources.enter_context(manager)
        told.wait_for("db-1", "firing")
        now_s = time.time()
        goes_on = event("firing", now_s, "db-1", start_s=began_s)
        topics.write(replace(goes_on, transition="updated", id="goes-on", expires_at=now_s + 3.0))
        over = told.wait_for("db-1", "resolved")
        assert "no news for" in over["annotations"]["summary"]
        assert daemon.metric("detector_notify_events_total", outcome="old") == 2
        assert daemon.metric("detector_notify_expired_total") == 1
        assert daemon.terminate() == 0, daemon.log()
        assert "moved" in daemon.log()
        assert not any(secret in daemon.log() for secret in ("hunter2", SECRET, hook.url))
    assert told.statuses() == {("db-1", "firing"): 1, ("db-1", "resolved"): 1}
    letters = read_all(settings_of(topics.broker), topics.dead_letters, headers=True)
    assert {(letter.headers["detector.receiver"].decode().split()[0], letter.key) for letter in letters} == {
        ("moved", b"db-1")
    }
    assert {letter.headers["detector.reason"] for letter in letters} == {b"refused"}


def test_whichever_client_took_it_so_far_the_other_goes_on(topics: Topics, tmp_path: Path) -> None:
    clients: tuple[ClientName, ...] = ("kafka-python", "confluent", "confluent", "kafka-python")
    now_s = time.time()
    with FakeReceiver() as hook:
        webhooks = [{"name": "hook", "url": hook.url, "secret": SECRET}]
        for told, client in enumerate(clients):
            config = configuration(topics, client=client, alertmanagers=[], webhooks=webhooks)
            with Daemon(config, tmp_path, "notify") as daemon:
                daemon.wait_until_ready()
                topics.write(event("firing", now_s + told, f"web-{told}"))
                hook.wait_for(told + 1)
                assert daemon.terminate() == 0, daemon.log()
                assert "Traceback" not in daemon.log()
        assert len({request.headers["webhook-id"] for request in hook.requests}) == len(hook.requests) == 4
