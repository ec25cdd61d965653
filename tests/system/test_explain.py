"""The installed ``detector explain`` on what a real daemon left on a real Kafka."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition

from detector.batch import Source
from tests.kafka.broker import RealBroker
from tests.system.conftest import TRAINING_STEPS, Topics, Trained, configuration, new_topics, settings_of
from tests.system.process import Daemon, run
from tests.system.telemetry import FEATURES, HOSTS, Telemetry, produce, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

STEPS = 300
HOST, FEATURE, FIRST = "host-05", "disk", 285
TOGETHER, THEN = HOSTS[10:18], 100


@dataclass(frozen=True)
class Left:
    """What the daemon left: its configuration, and the alert of the one host that was ill."""

    config: Path
    topics: Topics
    alert_id: str
    source: Source
    incidents: list[dict[str, Any]]
    members: list[dict[str, Any]]
    """Events of the hosts that were ill together."""


@pytest.fixture(scope="module")
def left(
    trained: Trained, kafka_broker: RealBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Left]:
    settings, topics = settings_of(kafka_broker), new_topics(kafka_broker)
    telemetry = Telemetry(TRAINING_STEPS + STEPS, seed=3)
    ill = slice(TRAINING_STEPS + FIRST, TRAINING_STEPS + FIRST + 8)
    telemetry.values[ill, HOSTS.index(HOST), FEATURES.index(FEATURE)] += 15.0
    together = slice(TRAINING_STEPS + THEN, TRAINING_STEPS + THEN + 8)
    telemetry.values[together, HOSTS.index(TOGETHER[0]) : HOSTS.index(TOGETHER[-1]) + 1] += 12.0
    with Daemon(
        configuration(kafka_broker, topics, trained.store), tmp_path_factory.mktemp("explained")
    ) as daemon:
        daemon.wait_until_ready()
        produce(settings, topics.telemetry, *telemetry.records(TRAINING_STEPS, TRAINING_STEPS + STEPS))
        daemon.wait_for_records(STEPS * len(HOSTS))
        assert daemon.terminate() == 0
        alerts = [alert.json() for alert in read_all(settings, topics.alerts)]
        [alert] = [a for a in alerts if a.get("entity") == HOST and a["state"] == "firing"]
        source = Source(alert["origin"]["topic"], alert["origin"]["partition"])
        incidents = [a for a in alerts if a.get("kind") == "incident"]
        members = [a for a in alerts if a.get("entity") in TOGETHER]
        yield Left(daemon.config, topics, alert["alert_id"], source, incidents, members)


def test_it_names_the_ill_feature_with_its_band_and_the_replay_agrees(left: Left) -> None:
    done = run("explain", str(left.config), left.alert_id)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    because = [line for line in lines if line.startswith("because")]
    assert because[0].split()[1] == FEATURE
    value, low, high = (float(because[0].split()[i].rstrip(",")) for i in (2, 4, 6))
    assert low < high < value
    assert sum("suspicious" in line or "  peak" in line for line in lines) >= 6
    assert "the replay says what the alert said" in done.stdout
    # Both happened today.
    assert "of watch was trained" in done.stdout
    assert "of watch was promoted" in done.stdout


def test_hosts_that_are_ill_together_are_one_incident_that_is_explained_too(left: Left) -> None:
    assert {incident["alert_id"] for incident in left.incidents} == {left.incidents[0]["alert_id"]}
    assert left.incidents[0]["state"] == "firing"
    assert left.incidents[-1]["state"] == "resolved"
    assert left.incidents[-1]["entities"] == len(TOGETHER)
    over = [member for member in left.members if member["state"] == "resolved"]
    # Who was over before so many others were read of that it is an incident, knows nothing of it.
    assert {member["incident_id"] for member in over} - {None} == {left.incidents[0]["alert_id"]}
    done = run("explain", str(left.config), left.incidents[0]["alert_id"])
    assert done.returncode == 0, done.stderr
    assert f"{len(TOGETHER)} entities of detector watch" in done.stdout
    assert all(host in done.stdout for host in TOGETHER)


def test_an_unknown_alert_says_how_many_events_were_searched(left: Left) -> None:
    done = run("explain", str(left.config), "nonsense")
    assert done.returncode == 2
    assert done.stderr.startswith("no alert 'nonsense' among the ")
    assert left.topics.alerts in done.stderr


def test_records_that_retention_deleted_are_missed_in_words(left: Left, kafka_broker: RealBroker) -> None:
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    try:
        # -1 is all there are.
        admin.delete_records({TopicPartition(left.source.topic, left.source.partition): -1})
    finally:
        admin.close()
    done = run("explain", str(left.config), left.alert_id)
    assert done.returncode == 0, done.stderr
    assert "the records are deleted" in done.stdout
    assert FEATURE in done.stdout
