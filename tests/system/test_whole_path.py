"""The installed command against a real broker: train from a topic, run, score, raise alerts, stop."""

import resource
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest
from kafka import KafkaAdminClient

from tests.kafka.broker import RealBroker
from tests.system.conftest import (
    INCIDENTS,
    STEPS,
    TRAINING_STEPS,
    Trained,
    configuration,
    settings_of,
)
from tests.system.process import GRACE_S, Daemon, run, total
from tests.system.telemetry import HOSTS, Read, origins, produce, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

RECORDS = STEPS * len(HOSTS)


@dataclass(frozen=True)
class Finished:
    """What a daemon left behind that read everything and was told to stop."""

    daemon: Daemon
    exit_code: int
    metrics_text: str
    mapped: str
    scores: list[Read]
    alerts: list[Read]


@pytest.fixture(scope="module")
def finished(
    trained: Trained, kafka_broker: RealBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Finished]:
    settings = settings_of(kafka_broker)
    config = configuration(kafka_broker, trained.topics, trained.store)
    with Daemon(config, tmp_path_factory.mktemp("daemon")) as daemon:
        daemon.wait_until_ready()
        produce(settings, trained.topics.telemetry, *trained.telemetry.records(TRAINING_STEPS, STEPS))
        daemon.wait_for_records(RECORDS)
        metrics_text, mapped = daemon.get("/metrics")[1], daemon.shared_objects()
        exit_code = daemon.terminate()
        scores = read_all(settings, trained.topics.scores)
        alerts = read_all(settings, trained.topics.alerts, headers=True)
        yield Finished(daemon, exit_code, metrics_text, mapped, scores, alerts)


def test_training_says_what_it_wrote_and_what_the_budget_led_to(trained: Trained) -> None:
    assert "champion" in trained.output
    assert f"{TRAINING_STEPS * len(HOSTS)} records" in trained.output
    assert "threshold" in trained.output


def test_fifty_thousand_records_in_fifty_thousand_scores_out(
    finished: Finished, trained: Trained, kafka_broker: RealBroker
) -> None:
    assert RECORDS == 50_000
    sent = Counter(
        (source.partition, offset)
        for source, offset in origins(settings_of(kafka_broker), trained.topics.telemetry)
    )
    scores = [score.json() for score in finished.scores]
    scored = Counter((score["origin"]["partition"], score["origin"]["offset"]) for score in scores)
    assert sum(sent.values()) == RECORDS
    assert scored == sent
    # The first record of a host has no past to be predicted from.
    assert Counter(score["status"] for score in scores) == {
        "warming_up": len(HOSTS),
        "scored": RECORDS - len(HOSTS),
    }
    assert all(0 < score["p_value"] <= 1 for score in scores if score["status"] == "scored")
    assert all(score["p_value"] is None for score in scores if score["status"] != "scored")
    assert {read.key for read in finished.scores} == {host.encode() for host in HOSTS}


def test_every_injected_incident_fires_and_resolves_and_little_else_does(
    finished: Finished, trained: Trained
) -> None:
    events = [alert.json() for alert in finished.alerts]
    firing = [event for event in events if event["state"] == "firing"]
    resolved = {event["alert_id"] for event in events if event["state"] == "resolved"}
    for incident in INCIDENTS:
        found = [
            event
            for event in firing
            if event["entity"] == incident.host and _within(event, incident, trained)
        ]
        assert found, f"{incident} raised no alert among {[(e['entity'], e['start']) for e in firing]}"
        assert found[0]["alert_id"] in resolved
        assert found[0]["labels"] == {"team": "shop"}
        assert "normally" in found[0]["return_period"]
        assert {reason["feature"] for reason in found[0]["reasons"]}
        assert (
            abs(found[0]["reasons"][0]["actual"] - found[0]["reasons"][0]["expected"])
            > found[0]["reasons"][0]["std"]
        )
    days = STEPS * 60 / 86_400
    assert len(firing) <= len(INCIDENTS) + 5 * len(HOSTS) * days / 7


def test_alerts_are_cloudevents_with_an_id_of_their_own(finished: Finished) -> None:
    for alert in finished.alerts:
        assert alert.headers["ce_specversion"] == b"1.0"
        assert alert.headers["content-type"] == b"application/json"
        assert alert.headers["ce_type"].decode() == f"io.detector.alert.{alert.json()['state']}.v1"
        assert alert.headers["ce_subject"] == alert.key
    ids = [alert.headers["ce_id"] for alert in finished.alerts]
    assert len(set(ids)) == len(ids) > 0


def test_metrics_say_what_happened(finished: Finished) -> None:
    text = finished.metrics_text
    firing = sum(alert.json()["state"] == "firing" for alert in finished.alerts)
    assert total(text, "detector_records_total", input="hosts", outcome="decoded") == RECORDS
    assert total(text, "detector_records_total", input="hosts", outcome="dead_letter") == 0
    assert total(text, "detector_scored_records_total", status="scored") == RECORDS - len(HOSTS)
    assert total(text, "detector_scored_records_total", status="warming_up") == len(HOSTS)
    assert total(text, "detector_anomaly_score_count", detector="watch") == RECORDS - len(HOSTS)
    assert total(text, "detector_event_delay_seconds_count", detector="watch") == RECORDS
    assert total(text, "detector_alerts_total", transition="firing") == firing
    assert total(text, "detector_assigned_partitions") == 4
    assert total(text, "detector_broker_reachable") == 1
    assert total(text, "detector_entities", detector="watch") == len(HOSTS)
    assert total(text, "detector_model_info", detector="watch", family="gmm") == 1
    assert 0 < total(text, "detector_p_value_threshold", detector="watch") < 1
    assert total(text, "detector_consumer_lag_records") >= 0
    assert total(text, "detector_batch_duration_seconds_count", input="hosts") > 0
    for host in HOSTS:
        assert total(text, "detector_entity_anomaly_score", entity=host) >= 0


def test_metrics_pass_prometheus_own_check(finished: Finished, promtool: str) -> None:
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=finished.metrics_text,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_stop_is_clean_and_quick_and_leaves_the_group(
    finished: Finished, trained: Trained, kafka_broker: RealBroker
) -> None:
    assert finished.exit_code == 0, finished.daemon.log()
    assert finished.daemon.stop_s < GRACE_S
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    try:
        group = f"group-{trained.topics.telemetry}"
        described = admin.describe_groups([group])[group]
    finally:
        admin.close()
    assert not described["members"]


def test_scoring_process_holds_no_training_library(finished: Finished) -> None:
    modules = {name.partition(".")[0] for name in finished.daemon.modules()}
    assert {"detector", "numpy", "kafka"} <= modules
    assert not modules & {"torch", "sklearn", "hmmlearn", "pyarrow", "pandas"}
    assert "numpy" in finished.mapped
    for library in ("torch", "sklearn", "hmmlearn"):
        assert f"/{library}/" not in finished.mapped


def test_version_takes_less_than_a_second() -> None:
    # Of the processor: a machine with much to do takes its time.
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("--version").stdout.startswith("detector ")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert 0.0 < min(took) < 1.0


def _within(event: dict[str, str], incident: tuple[str, int, int], trained: Trained) -> bool:
    start_s = datetime.fromisoformat(event["start"]).timestamp()
    _, first, last = incident
    return trained.telemetry.time_s(first) <= start_s <= trained.telemetry.time_s(last)
