"""From records to people: ``detector run``, ``detector notify``, Alertmanager, and a webhook behind it."""

import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from detector.stream.port import ClientName, ClientSettings
from tests.delivery.http_server import FakeReceiver
from tests.kafka.broker import RealBroker
from tests.system.alertmanager import Alertmanager
from tests.system.conftest import TRAINING_STEPS, Trained, configuration, new_topics, settings_of
from tests.system.process import Daemon, wait_until
from tests.system.telemetry import FEATURES, HOSTS, Telemetry, produce, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

STEPS = 70
TOGETHER, FIRST, LAST = HOSTS[2:10], 30, 33
"""They are ill in these steps, for too short to be critical."""
EARLIER = HOSTS[2]
"""Is one step ahead of the others."""
SILENT, BACK = HOSTS[15], 45
"""Stops when the others fall ill, and is back in this step."""
MARKER, MORE = HOSTS[16], 15
"""Stops for so many steps after all that: whoever hears of it has heard of the rest."""
FEWEST = 5
"""Make an incident, by default."""


class Told:
    """What the webhook was told, by kind of alert, entity and status."""

    def __init__(self, receiver: FakeReceiver) -> None:
        self._receiver = receiver

    def alerts(self) -> list[dict[str, Any]]:
        return [alert for request in self._receiver.requests for alert in request.json()["alerts"]]

    def counts(self) -> Counter[tuple[str, str, str]]:
        return Counter(
            (alert["labels"]["alertname"], alert["labels"].get("entity", ""), alert["status"])
            for alert in self.alerts()
        )

    def wait_for(self, name: str, entity: str, status: str) -> dict[str, Any]:
        key = name, entity, status
        wait_until(lambda: self.counts()[key] > 0, 60.0, f"told of {key}, not only of {self.counts()}")
        labels = {"alertname": name} | ({"entity": entity} if entity else {})
        found: dict[str, Any] = next(
            alert
            for alert in self.alerts()
            if alert["status"] == status and labels.items() <= alert["labels"].items()
        )
        return found


class Send(Protocol):
    """Writes the steps [first, end) after the training, of some hosts or all, step after step."""

    def __call__(self, first: int, end: int, hosts: Sequence[str] = HOSTS) -> None: ...


def sender(settings: ClientSettings, topic: str, telemetry: Telemetry) -> Send:
    def send(first: int, end: int, hosts: Sequence[str] = HOSTS) -> None:
        for step in range(TRAINING_STEPS + first, TRAINING_STEPS + end):
            records = zip(HOSTS, *telemetry.records(step, step + 1), strict=True)
            sent = [(key, value) for host, key, value in records if host in hosts]
            produce(settings, topic, [key for key, _ in sent], [value for _, value in sent])

    return send


@pytest.fixture
def behind() -> Iterator[FakeReceiver]:
    with FakeReceiver() as receiver:
        yield receiver


def test_of_an_incident_and_of_an_absence_people_are_told_once_that_it_is_and_once_that_it_is_over(
    trained: Trained, kafka_broker: RealBroker, behind: FakeReceiver, tmp_path: Path
) -> None:
    settings, topics, told = settings_of(kafka_broker), new_topics(kafka_broker, partitions=2), Told(behind)
    telemetry = Telemetry(TRAINING_STEPS + STEPS + MORE + 3, seed=4)
    for host in TOGETHER:
        first = TRAINING_STEPS + FIRST - (host == EARLIER)
        ill = telemetry.values[first : TRAINING_STEPS + LAST + 1, HOSTS.index(host)]
        ill[:, FEATURES.index("disk")] += 15.0

    send = sender(settings, topics.telemetry, telemetry)
    for name in ("scorer", "deliverer"):
        (tmp_path / name).mkdir()
    with Alertmanager(tmp_path / "am", behind.url) as manager:
        config = configuration(kafka_broker, topics, trained.store)
        # Of the input as a whole nothing is said while the test waits.
        config["inputs"][0]["absence"] = {"silence_after": "1h"}
        config["notify"] = {
            "alertmanagers": [{"urls": [manager.url], "resend": "2.5s"}],
            # The records are of the last hour.
            "max_alert_age": "3h",
        }
        with (
            Daemon(config, tmp_path / "scorer") as scorer,
            Daemon(config, tmp_path / "deliverer", "notify") as deliverer,
        ):
            scorer.wait_until_ready()
            deliverer.wait_until_ready()
            send(0, FIRST)
            told.wait_for("DetectorAnomaly", EARLIER, "firing")
            send(FIRST, BACK, [host for host in HOSTS if host != SILENT])
            incident = told.wait_for("DetectorIncident", "", "firing")
            absence = told.wait_for("DetectorAbsence", SILENT, "firing")
            send(BACK, STEPS)
            told.wait_for("DetectorIncident", "", "resolved")
            told.wait_for("DetectorAnomaly", EARLIER, "resolved")
            back = told.wait_for("DetectorAbsence", SILENT, "resolved")
            # What is repeated comes before somebody else is gone and back.
            send(STEPS, STEPS + MORE, [host for host in HOSTS if host != MARKER])
            told.wait_for("DetectorAbsence", MARKER, "firing")
            send(STEPS + MORE, STEPS + MORE + 3)
            told.wait_for("DetectorAbsence", MARKER, "resolved")
            assert deliverer.terminate() == 0, deliverer.log()
            assert scorer.terminate() == 0, scorer.log()

    counts = told.counts()
    for name, entity in (("Incident", ""), ("Absence", SILENT), ("Anomaly", EARLIER)):
        both = [counts[f"Detector{name}", entity, status] for status in ("firing", "resolved")]
        assert both == [1, 1], (name, counts)
    assert incident["annotations"]["summary"].endswith("and 5 more; mostly disk")
    assert absence["annotations"]["summary"].startswith(f"{SILENT}: nothing for ")
    assert back["annotations"]["summary"].startswith(f"{SILENT}: records come again after ")
    events = [read.json() for read in read_all(settings, topics.alerts)]
    incidents = [event for event in events if event["kind"] == "incident"]
    assert {event["alert_id"] for event in incidents} == {incident["annotations"]["alert_id"]}
    assert max(event["entities"] for event in incidents) == len(TOGETHER)
    # Of its members people are told only where the alert was there before the incident ...
    members = {event["alert_id"]: event for event in events if event.get("incident_id") is not None}
    assert {event["entity"] for event in members.values()} == set(TOGETHER)
    of_their_own = {alert["labels"].get("entity") for alert in told.alerts()} & set(TOGETHER)
    assert EARLIER in of_their_own
    # ... which a step that is read in two polls may bring about for some others.
    assert len(of_their_own) < FEWEST
    for entity in of_their_own:
        assert [counts["DetectorAnomaly", entity, status] for status in ("firing", "resolved")] == [1, 1]


@pytest.mark.parametrize(("how", "client"), [(signal.SIGTERM, "kafka-python"), (signal.SIGKILL, "confluent")])
def test_what_is_open_when_the_scorer_ends_goes_on_with_the_next_one(
    how: signal.Signals,
    client: ClientName,
    trained: Trained,
    kafka_broker: RealBroker,
    behind: FakeReceiver,
    tmp_path: Path,
) -> None:
    settings, topics, told = settings_of(kafka_broker), new_topics(kafka_broker, partitions=2), Told(behind)
    telemetry = Telemetry(TRAINING_STEPS + STEPS, seed=5)
    ill, first, end = HOSTS[4], 33, 36
    telemetry.values[TRAINING_STEPS + first : TRAINING_STEPS + end, HOSTS.index(ill), 2] += 15.0
    send = sender(settings, topics.telemetry, telemetry)
    config = configuration(kafka_broker, topics, trained.store, client)
    # So that the next one need not wait for the session of the one that was killed.
    config["kafka"]["instance_id"] = "replica-0"
    config["inputs"][0]["absence"] = {"silence_after": "1h"}
    config["notify"] = {"webhooks": [{"name": "people", "url": behind.url}], "max_alert_age": "3h"}
    for name in ("scorer", "deliverer"):
        (tmp_path / name).mkdir()
    present = [host for host in HOSTS if host != SILENT]
    with Daemon(config, tmp_path / "deliverer", "notify") as deliverer:
        with Daemon(config, tmp_path / "scorer") as scorer:
            scorer.wait_until_ready()
            send(0, 30)
            send(30, end, present)
            told.wait_for("DetectorAnomaly", ill, "firing")
            told.wait_for("DetectorAbsence", SILENT, "firing")
            scorer.process.send_signal(how)
            scorer.process.wait(60)
        with Daemon(config, tmp_path / "scorer") as scorer:
            firing = "detector_alert_firing"
            told_of = f"it fires before its entity sends again\n{scorer.log()}"
            wait_until(lambda: scorer.metric(firing, entity=ill) == 1, 60.0, told_of)
            send(end, end + 4, present)
            wait_until(lambda: scorer.metric("detector_entities") > 0, 60.0, "records are scored")
            assert scorer.metric(firing, entity=ill) == 1, scorer.log()
            assert scorer.metric("detector_absence_firing", entity=SILENT) == 1
            send(end + 4, STEPS)
            told.wait_for("DetectorAnomaly", ill, "resolved")
            told.wait_for("DetectorAbsence", SILENT, "resolved")
            assert scorer.terminate() == 0, scorer.log()
        assert deliverer.terminate() == 0, deliverer.log()
    for entity in (ill, SILENT):
        events = [read.json() for read in read_all(settings, topics.alerts) if read.key == entity.encode()]
        assert len({event["alert_id"] for event in events}) == 1
        states = Counter(event["state"] for event in events)
        assert (states["firing"], states["resolved"]) == (1, 1)
        names = {name for name, of, _ in told.counts() if of == entity}
        assert [told.counts()[name, entity, "firing"] for name in names] == [1]
        assert [told.counts()[name, entity, "resolved"] for name in names] == [1]


def test_a_level_shift_that_stays_is_one_episode_and_a_restart_makes_it_no_other(
    trained: Trained, kafka_broker: RealBroker, tmp_path: Path
) -> None:
    settings, topics = settings_of(kafka_broker), new_topics(kafka_broker, partitions=2)
    # It fires in step 12 or so, and is normal 40 steps later.
    shifted, first, restarted, end = HOSTS[4], 10, 60, 90
    telemetry = Telemetry(TRAINING_STEPS + end, seed=6)
    telemetry.values[TRAINING_STEPS + first :, HOSTS.index(shifted)] += 12.0
    send = sender(settings, topics.telemetry, telemetry)
    config = configuration(kafka_broker, topics, trained.store)
    config["detectors"][0]["alerting"]["release_after"] = "40m"

    def scored(records: int) -> bool:
        return len(read_all(settings, topics.scores)) >= records

    def of_shifted() -> list[dict[str, Any]]:
        read = [each.json() for each in read_all(settings, topics.alerts) if each.key == shifted.encode()]
        return [event for event in read if event["kind"] == "anomaly" and event["state"] != "updated"]

    for start, until in ((0, restarted), (restarted, end)):
        with Daemon(config, tmp_path) as scorer:
            scorer.wait_until_ready()
            send(start, until)
            wait_until(partial(scored, until * len(HOSTS)), 60.0, f"{until} steps are scored")
            assert scorer.terminate() == 0, scorer.log()
        assert [(event["state"], event["resolved_because"]) for event in of_shifted()] == [
            ("firing", None),
            ("resolved", "new_normal"),
        ]
