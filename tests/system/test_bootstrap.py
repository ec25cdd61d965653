"""A daemon without a trained version: it waits for records, trains beside its work, then raises alerts."""

from pathlib import Path

import pytest

from tests.kafka.broker import RealBroker
from tests.system.conftest import configuration, new_topics, settings_of
from tests.system.process import Daemon, wait_until
from tests.system.telemetry import HOSTS, Incident, Telemetry, produce, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

FIRST, ENOUGH, STEPS = 40, 120, 240
INCIDENT = Incident("host-05", 200, 219)


def test_from_an_empty_store_to_an_alert(kafka_broker: RealBroker, tmp_path: Path) -> None:
    topics, telemetry = new_topics(kafka_broker), Telemetry(STEPS, [INCIDENT])
    settings = settings_of(kafka_broker)
    config = configuration(kafka_broker, topics, tmp_path / "store")
    config["detectors"][0]["bootstrap"] = {"records": 100}
    produce(settings, topics.telemetry, *telemetry.records(0, FIRST))
    with Daemon(config, tmp_path) as daemon:
        daemon.wait_until_ready()
        note = f"bootstrapping: {FIRST} of 100 records of an entity"

        def noted() -> bool:
            return note in daemon.get("/-/ready")[1]

        wait_until(noted, 30.0, f"{note}; {daemon.get('/-/ready')}\n{daemon.log()}")
        assert daemon.metric("detector_bootstrap_records", detector="watch") == FIRST
        assert daemon.metric("detector_bootstrap_records_needed", detector="watch") == 100
        produce(settings, topics.telemetry, *telemetry.records(FIRST, ENOUGH))
        wait_until(
            lambda: daemon.metric("detector_model_info", detector="watch") == 1, 120.0, "a version serves"
        )
        produce(settings, topics.telemetry, *telemetry.records(ENOUGH, STEPS))
        daemon.wait_for_records(STEPS * len(HOSTS))
        assert daemon.metric("detector_bootstrap_records_needed", detector="watch") >= 400
        assert daemon.metric("detector_bootstrap_trainings_total", outcome="trained") == 1
        assert 200 < daemon.metric("detector_model_young_records_missing", detector="watch") < 300
        assert daemon.terminate() == 0, daemon.log()
        modules = {name.partition(".")[0] for name in daemon.modules()}
    assert not modules & {"torch", "sklearn", "hmmlearn", "pyarrow"}
    scores = [score.json() for score in read_all(settings, topics.scores)]
    # Every record from there on, and none from before.
    versions = {path.name for path in (tmp_path / "store" / "watch").glob("2*")}
    assert {score["version"] for score in scores} == versions
    assert len(scores) == (STEPS - ENOUGH) * len(HOSTS)
    firing = [
        event
        for event in (alert.json() for alert in read_all(settings, topics.alerts))
        if event["state"] == "firing" and event["entity"] == INCIDENT.host
    ]
    assert firing
    assert "detector watch: bootstrapping: " in daemon.log()
    assert "too few to know how rare large surprises are" in daemon.log()
