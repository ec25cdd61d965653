"""Every kind of bad record through the real daemon: one dead letter each, and all good neighbours scored."""

from collections import Counter
from pathlib import Path

import pytest

from detector.stream.port import ClientName
from tests.kafka.broker import RealBroker
from tests.stream.poison import POISON
from tests.system.conftest import TRAINING_STEPS, Trained, configuration, new_topics, settings_of
from tests.system.process import Daemon, total
from tests.system.telemetry import produce, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

# A list of three values has the wrong length here, where there are five features.
BAD = [(value, reason) for value, reason in POISON if b"[Infinity" not in (value or b"")]


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_each_bad_record_becomes_one_dead_letter_and_its_neighbours_are_scored(
    client: ClientName, trained: Trained, kafka_broker: RealBroker, tmp_path: Path
) -> None:
    if client == "confluent":
        pytest.importorskip("confluent_kafka")
    settings, topics = settings_of(kafka_broker), new_topics(kafka_broker, partitions=1)
    _, good = trained.telemetry.records(TRAINING_STEPS, TRAINING_STEPS + 10)
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    for i, (bad, _) in enumerate(BAD):
        keys += [b"good", f"bad-{i}".encode()]
        values += [good[i], bad]
    produce(settings, topics.telemetry, keys, values)
    with Daemon(configuration(kafka_broker, topics, trained.store, client), tmp_path) as daemon:
        daemon.wait_for_records(len(values))
        metrics = daemon.get("/metrics")[1]
        assert daemon.terminate() == 0, daemon.log()

    letters = read_all(settings, topics.dead_letters, headers=True)
    assert [letter.headers["__connect.errors.offset"] for letter in letters] == [
        str(2 * i + 1).encode() for i in range(len(BAD))
    ]
    for i, (letter, (bad, reason)) in enumerate(zip(letters, BAD, strict=True)):
        assert letter.key == f"bad-{i}".encode()
        assert letter.value == (bad or b"")
        assert letter.headers["detector.reason"].decode() == reason
        assert letter.headers["__connect.errors.topic"].decode() == topics.telemetry
        assert letter.headers["__connect.errors.partition"] == b"0"
        assert letter.headers["__connect.errors.exception.message"]
    scores = [score.json() for score in read_all(settings, topics.scores)]
    assert sorted(score["origin"]["offset"] for score in scores) == list(range(0, 2 * len(BAD), 2))
    assert {score["status"] for score in scores} == {"warming_up", "scored"}
    for reason, count in Counter(reason for _, reason in BAD).items():
        assert total(metrics, "detector_dead_letters_total", reason=reason) == count
