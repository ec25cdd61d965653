"""Entities that stop, all of them that stop, and a restart: the installed command against a real broker."""

import json
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.kafka.broker import RealBroker
from tests.system.conftest import Trained, configuration, new_topics, settings_of
from tests.system.process import Daemon, wait_until
from tests.system.telemetry import FEATURES, produce, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

FLEET = [f"web-{i:04d}" for i in range(1000)]
STOPPED = "web-0123"
INTERVAL_S = 1.0


class Fleet:
    """Writes records of many entities, one of each a second of event time, never ahead of the clock."""

    def __init__(self, broker: RealBroker, topic: str) -> None:
        self._settings = settings_of(broker)
        self._topic = topic
        self._time_s = time.time() - 120.0
        self.sent = 0

    def pass_by(self, seconds: float) -> None:
        """Let event time pass in which nobody sends."""
        self._time_s += seconds

    def send(self, rounds: int, entities: Sequence[str]) -> None:
        for _ in range(rounds):
            features = dict.fromkeys(FEATURES, 0.0)
            values = [
                json.dumps(
                    {"entity": entity, "time": self._time_s + i / len(FLEET), "features": features}
                ).encode()
                for i, entity in enumerate(entities)
            ]
            produce(self._settings, self._topic, [entity.encode() for entity in entities], values)
            self._time_s += INTERVAL_S
            self.sent += len(entities)

    def send_in_step(self, rounds: int, entities: Sequence[str], daemon: Daemon, before: int = 0) -> None:
        """Send a round when the one before is processed; the daemon has read all but ``before`` records."""
        for _ in range(rounds):
            self.send(1, entities)
            daemon.wait_for_records(self.sent - before)


def test_one_that_stops_is_missed_all_that_stop_are_one_incident_and_a_restart_raises_none(
    trained: Trained, kafka_broker: RealBroker, tmp_path: Path
) -> None:
    topics = new_topics(kafka_broker)
    config = configuration(kafka_broker, topics, trained.store)
    config["inputs"][0]["absence"] = {"silence_after": "8s"}
    fleet = Fleet(kafka_broker, topics.telemetry)
    running = [entity for entity in FLEET if entity != STOPPED]

    def absences() -> list[dict[str, Any]]:
        events = [read.json() for read in read_all(settings_of(kafka_broker), topics.alerts)]
        return sorted(
            (event for event in events if event["kind"] == "absence"), key=lambda event: event["time"]
        )

    def told(n: int) -> list[tuple[str, str]]:
        wait_until(lambda: len(absences()) >= n, 60.0, f"{n} events of absence, not {absences()}")
        return [(event["state"], event["entity"]) for event in absences()]

    with Daemon(config, tmp_path) as daemon:
        daemon.wait_until_ready()
        fleet.send(20, FLEET)
        fleet.send_in_step(8, running, daemon)
        assert told(1) == [("firing", STOPPED)]
        event = absences()[0]
        silent_s = _seconds(event["time"]) - _seconds(event["start"])
        # A look at all entities is taken once a second of the stream's time, and after a poll.
        assert 4 * INTERVAL_S - 0.1 < silent_s <= 5 * INTERVAL_S + 1.0 + INTERVAL_S
        # The metric comes after the event.
        absent = "detector_absent_entities"
        wait_until(lambda: daemon.metric(absent, input="hosts") == 1, 30.0, "one absent entity")
        assert daemon.metric("detector_absence_firing", entity=STOPPED, kind="absence") == 1

        # Nobody sends any more.
        assert told(2)[1:] == [("firing", "*")]
        assert (absences()[1]["entities"], absences()[1]["alive"]) == (999, 999)
        fleet.pass_by(10.0)
        fleet.send_in_step(8, running, daemon)
        assert told(3)[2:] == [("resolved", "*")]
        assert daemon.terminate() == 0
    read = fleet.sent
    fleet.send(8, running)
    with Daemon(config, tmp_path) as daemon:
        fleet.send_in_step(8, running, daemon, before=read)
        # Of what the first one told, that alone goes on.
        wait_until(lambda: daemon.metric(absent, input="hosts") == 1, 30.0, "one absent entity")
        assert len(absences()) == 3
        fleet.send_in_step(1, FLEET, daemon, before=read)
        assert told(4)[3:] == [("resolved", STOPPED)]
        assert daemon.terminate() == 0
    assert told(4)[:3] == [("firing", STOPPED), ("firing", "*"), ("resolved", "*")]
    assert absences()[3]["alert_id"] == absences()[0]["alert_id"]


def _seconds(time_text: str) -> float:
    return datetime.fromisoformat(time_text).timestamp()
