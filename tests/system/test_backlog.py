"""A backlog of six hours: what happened in it is on the alerts topic, and wakes nobody."""

from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from tests.delivery.http_server import FakeReceiver
from tests.kafka.broker import RealBroker
from tests.system.conftest import Trained, configuration, new_topics, settings_of
from tests.system.process import Daemon, wait_until
from tests.system.telemetry import HOSTS, Incident, Telemetry, produce, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

STEPS = 360
OLD = [Incident(host, 60 + 25 * i, 68 + 25 * i) for i, host in enumerate(HOSTS[:10])]
FRESH = Incident(HOSTS[15], 354, 359)
MAX_ALERT_AGE_S = 900.0


def test_ten_old_incidents_are_recorded_and_counted_and_nobody_is_told(
    trained: Trained, kafka_broker: RealBroker, tmp_path: Path
) -> None:
    topics = new_topics(kafka_broker)
    telemetry = Telemetry(STEPS, [*OLD, FRESH], seed=2)
    produce(settings_of(kafka_broker), topics.telemetry, *telemetry.records(0, STEPS))
    for name in ("scorer", "deliverer"):
        (tmp_path / name).mkdir()
    with FakeReceiver() as receiver:
        config = configuration(kafka_broker, topics, trained.store)
        config["notify"] = {"webhooks": [{"name": "people", "url": receiver.url}]}
        with (
            Daemon(config, tmp_path / "scorer") as scorer,
            Daemon(config, tmp_path / "deliverer", "notify") as deliverer,
        ):
            scorer.wait_for_records(STEPS * len(HOSTS))
            events = [read.json() for read in read_all(settings_of(kafka_broker), topics.alerts)]
            wait_until(
                lambda: deliverer.metric("detector_notify_events_total") >= len(events), 30.0, "all is read"
            )
            wait_until(lambda: len(receiver.requests) > 0, 30.0, "somebody is told of what happens now")
            old = deliverer.metric("detector_notify_events_total", outcome="old")

    seconds = {event["alert_id"]: datetime.fromisoformat(event["time"]).timestamp() for event in events}
    began = Counter(event.get("entity") for event in events if event["state"] == "firing")
    assert all(began[incident.host] for incident in (*OLD, FRESH)), began
    for incident in OLD:
        states = [event["state"] for event in events if event.get("entity") == incident.host]
        assert [state for state in states if state != "updated"][:2] == ["firing", "resolved"], incident
    newest_s = telemetry.time_s(STEPS)
    told = {
        alert["annotations"]["alert_id"]
        for request in receiver.requests
        for alert in request.json()["alerts"]
    }
    assert FRESH.host in {event.get("entity") for event in events if event["alert_id"] in told}
    assert all(newest_s - seconds[id] <= MAX_ALERT_AGE_S for id in told)
    assert old >= 2 * len(OLD)
