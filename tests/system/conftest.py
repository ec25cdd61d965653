"""One trained bundle for all system tests: training from a topic is part of what they test."""

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from detector.stream.port import ClientName, ClientSettings
from tests.kafka.broker import RealBroker
from tests.kafka.fixtures import create_topic
from tests.stream.poison import MAX_RECORD_BYTES
from tests.system.process import run
from tests.system.telemetry import FEATURES, Incident, Telemetry, produce

TRAINING_STEPS = 700
STEPS = 2500
INCIDENTS = (
    Incident("host-03", 1200, 1219),
    Incident("host-11", 1600, 1609),
    Incident("host-17", 2100, 2139),
)


@dataclass(frozen=True)
class Topics:
    """Names of one daemon's topics."""

    telemetry: str
    scores: str
    alerts: str
    dead_letters: str


def new_topics(broker: RealBroker, partitions: int = 4) -> Topics:
    name = f"system-{uuid.uuid4().hex[:8]}"
    topics = Topics(name, f"{name}.scores", f"{name}.alerts", f"{name}.dlq")
    for topic in (topics.telemetry, topics.scores, topics.alerts, topics.dead_letters):
        create_topic(broker, topic, partitions)
    return topics


def configuration(
    broker: RealBroker,
    topics: Topics,
    store: Path,
    client: ClientName = "kafka-python",
    session_timeout: str = "20s",
) -> dict[str, Any]:
    """Return a daemon's; the shorter its session, the sooner its partitions are free after it was killed."""
    return {
        "kafka": {
            "bootstrap_servers": [broker.bootstrap_servers],
            "client": client,
            "group_id": f"group-{topics.telemetry}",
            "session_timeout": session_timeout,
        },
        "inputs": [
            {
                "name": "hosts",
                "topics": [topics.telemetry],
                "labels": ["team"],
                "max_record_bytes": MAX_RECORD_BYTES,
            }
        ],
        "detectors": [
            {
                "name": "watch",
                "input": "hosts",
                "features": list(FEATURES),
                "family": "gmm",
                "store": str(store),
                "training": {"n_components": 2},
                "alerting": {"budget": {"false_alarms": 1, "per": "entity", "every": "7d"}},
            }
        ],
        "outputs": {
            "scores_topic": topics.scores,
            "alerts_topic": topics.alerts,
            "dead_letter_topic": topics.dead_letters,
        },
    }


def settings_of(broker: RealBroker) -> ClientSettings:
    return ClientSettings("kafka-python", (broker.bootstrap_servers,), connect_timeout_s=30.0)


@dataclass(frozen=True)
class Trained:
    """A store with one bundle, and the topic whose first part it was trained on."""

    store: Path
    topics: Topics
    telemetry: Telemetry
    output: str


@pytest.fixture(scope="session")
def trained(kafka_broker: RealBroker, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    topics = new_topics(kafka_broker)
    telemetry = Telemetry(STEPS, INCIDENTS)
    before, after = (datetime.fromtimestamp(telemetry.time_s(step), UTC) for step in (0, TRAINING_STEPS))
    produce(settings_of(kafka_broker), topics.telemetry, *telemetry.records(0, TRAINING_STEPS))
    config = folder / "train.yaml"
    config.write_text(json.dumps(configuration(kafka_broker, topics, folder / "store")))
    done = run("train", str(config), "watch", "--from", before.isoformat(), "--until", after.isoformat())
    assert done.returncode == 0, done.stderr
    return Trained(folder / "store", topics, telemetry, done.stdout)
