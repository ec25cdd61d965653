"""Windows of maintenance on a control topic: announced before a daemon starts, and while it works."""

import json
import uuid
from pathlib import Path

import pytest

from detector.stream.port import ClientName
from tests.kafka.broker import RealBroker
from tests.kafka.fixtures import create_topic
from tests.system.conftest import INCIDENTS, Trained, configuration, new_topics, settings_of
from tests.system.process import Daemon, run, wait_until
from tests.system.telemetry import HOSTS, Incident, produce, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

EARLY, LATER, OUTSIDE = INCIDENTS
AROUND = 10
"""Steps of a window before and after an incident."""


def test_training_leaves_out_what_was_announced(
    trained: Trained, kafka_broker: RealBroker, tmp_path: Path
) -> None:
    control = f"control-{uuid.uuid4().hex[:8]}"
    create_topic(kafka_broker, control, 2)
    begin, end = (trained.telemetry.time_s(step) for step in (100, 150))
    window = {"selector": {"entities": HOSTS[2:6]}, "from": begin, "until": end}
    produce(settings_of(kafka_broker), control, [b"load test"], [json.dumps(window).encode()])
    config = configuration(kafka_broker, trained.topics, tmp_path / "store") | {"control": {"topic": control}}
    file = tmp_path / "train.yaml"
    file.write_text(json.dumps(config))
    done = run("train", str(file), "watch")
    assert done.returncode == 0, done.stderr
    assert "200 labelled anomalous or in maintenance" in done.stdout
    config["control"]["topic"] = f"{control}-absent"
    file.write_text(json.dumps(config))
    assert f"control topic {control}-absent cannot be read: " in run("train", str(file), "watch").stderr


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_an_anomaly_inside_a_window_does_not_fire_and_one_outside_does(
    client: ClientName, trained: Trained, kafka_broker: RealBroker, tmp_path: Path
) -> None:
    settings, telemetry = settings_of(kafka_broker), trained.telemetry
    topics, control = new_topics(kafka_broker), f"control-{uuid.uuid4().hex[:8]}"
    create_topic(kafka_broker, control, 2, **{"cleanup.policy": "compact"})

    def announce(key: str, incident: Incident, **changes: object) -> None:
        window = {
            "selector": {"entities": incident.host[:-1] + "[" + incident.host[-1] + "]"},
            "from": telemetry.time_s(incident.first - AROUND),
            "until": telemetry.time_s(incident.last + AROUND),
            "kind": "deploy",
        }
        produce(settings, control, [key.encode()], [json.dumps(window | changes).encode()])

    def telemetry_around(incident: Incident) -> int:
        first, end = incident.first - 60, incident.last + 20
        produce(settings, topics.telemetry, *telemetry.records(first, end))
        return (end - first) * len(HOSTS)

    announce("early", EARLY)
    announce("withdrawn", OUTSIDE)
    produce(settings, control, [b"withdrawn", b"oops"], [None, b"not a window"])
    config = configuration(kafka_broker, topics, trained.store, client) | {"control": {"topic": control}}
    records = telemetry_around(EARLY)
    with Daemon(config, tmp_path) as daemon:
        daemon.wait_for_records(records)
        announce("later", LATER, kind="maintenance")
        heeded = "detector_control_records_total"
        wait_until(lambda: daemon.metric(heeded, outcome="window") == 3, 30.0, "the window is known")
        records += telemetry_around(LATER)
        records += telemetry_around(OUTSIDE)
        daemon.wait_for_records(records)
        inside = {
            kind: daemon.metric("detector_records_in_maintenance_total", kind=kind)
            for kind in ("deploy", "maintenance")
        }
        assert daemon.metric(heeded, outcome="refused") == 1
        assert daemon.metric(heeded, outcome="withdrawn") == 1
        assert daemon.terminate() == 0, daemon.log()

    assert "not a window" not in daemon.log()
    assert "is not heeded" in daemon.log()
    scores = [score.json() for score in read_all(settings, topics.scores)]
    assert len(scores) == records
    for incident, rule in ((EARLY, "deploy"), (LATER, "maintenance")):
        own = [score for score in scores if score.get("rule") == rule]
        steps = incident.last - incident.first + 2 * AROUND
        assert len(own) == inside[rule] == steps
        assert {score["entity"] for score in own} == {incident.host}
        assert sum(score["exceeds_threshold"] for score in own) >= incident.last - incident.first
    firing = [alert.json() for alert in read_all(settings, topics.alerts)]
    fired_hosts = {event["entity"] for event in firing if event["state"] == "firing"}
    assert OUTSIDE.host in fired_hosts
    assert not {EARLY.host, LATER.host} & fired_hosts
