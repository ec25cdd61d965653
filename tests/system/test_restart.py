"""A daemon that ends in the middle of a backlog, asked or not, and its successor."""

import signal
from collections import Counter
from pathlib import Path

import pytest

from detector.stream.port import ClientName
from tests.kafka.broker import RealBroker
from tests.system.conftest import TRAINING_STEPS, Topics, Trained, configuration, new_topics, settings_of
from tests.system.process import Daemon, wait_until
from tests.system.telemetry import HOSTS, produce, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

STEPS = 1500
RECORDS = STEPS * len(HOSTS)


def scored(broker: RealBroker, topics: Topics) -> Counter[tuple[int, int]]:
    scores = (score.json() for score in read_all(settings_of(broker), topics.scores))
    return Counter((score["origin"]["partition"], score["origin"]["offset"]) for score in scores)


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_successor_goes_on_where_the_commits_ended(
    how: signal.Signals, client: ClientName, trained: Trained, kafka_broker: RealBroker, tmp_path: Path
) -> None:
    topics = new_topics(kafka_broker, partitions=2)
    settings, middle = settings_of(kafka_broker), TRAINING_STEPS + STEPS * 4 // 5
    produce(settings, topics.telemetry, *trained.telemetry.records(TRAINING_STEPS, middle))
    config = configuration(kafka_broker, topics, trained.store, client, session_timeout="6s")
    with Daemon(config, tmp_path) as first:
        first.wait_for_records(1)
        first.process.send_signal(how)
        assert first.process.wait(60.0) == (0 if how == signal.SIGTERM else -signal.SIGKILL), first.log()
    before = scored(kafka_broker, topics)
    assert before
    # However far the first came, something is left.
    produce(settings, topics.telemetry, *trained.telemetry.records(middle, TRAINING_STEPS + STEPS))
    with Daemon(config, tmp_path) as second:
        wait_until(lambda: len(scored(kafka_broker, topics)) == RECORDS, 120.0, "the rest is scored")
        assert second.terminate() == 0, second.log()
    after = scored(kafka_broker, topics)
    assert len(after) == RECORDS
    if how == signal.SIGTERM:
        # It finished its batch and committed, so nothing comes twice.
        assert set(after.values()) == {1}
