"""The real daemon without a broker: at the start, in the middle, and when told to stop."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from detector.stream.port import ClientName
from tests.kafka.broker import RealBroker
from tests.kafka.fixtures import create_topic
from tests.system.conftest import TRAINING_STEPS, Topics, Trained, configuration, settings_of
from tests.system.process import GRACE_S, Daemon, wait_until
from tests.system.telemetry import HOSTS, origins, produce, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

TOPICS = Topics("telemetry", "scores", "alerts", "dead-letters")
STEPS = 50


@pytest.fixture
def own_broker() -> Iterator[RealBroker]:
    """A broker that is not running yet."""
    broker = RealBroker()
    try:
        yield broker
    finally:
        broker.__exit__(None, None, None)


def not_ready_because_of_the_broker(daemon: Daemon) -> bool:
    status, body = daemon.get("/-/ready")
    return status == 503 and "broker" in body


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_daemon_waits_for_the_broker_and_resumes_after_it_was_killed(
    client: ClientName, trained: Trained, own_broker: RealBroker, tmp_path: Path
) -> None:
    if client == "confluent":
        pytest.importorskip("confluent_kafka")
    settings = settings_of(own_broker)

    def send(first: int) -> None:
        start = TRAINING_STEPS + first
        produce(settings, TOPICS.telemetry, *trained.telemetry.records(start, start + STEPS))

    config = configuration(own_broker, TOPICS, trained.store, client, session_timeout="6s")
    with Daemon(config, tmp_path) as daemon:
        wait_until(lambda: not_ready_because_of_the_broker(daemon), 120.0, "started without a broker")
        wait_until(lambda: "Kafka fails" in daemon.log(), 120.0, "a log line about the broker")
        assert daemon.get("/-/healthy")[0] == 200

        own_broker.start()
        for topic in (TOPICS.telemetry, TOPICS.scores, TOPICS.alerts):
            create_topic(own_broker, topic, 2)
        missing = f"output topics {TOPICS.dead_letters} do not exist"
        wait_until(lambda: missing in daemon.get("/-/ready")[1], 60.0, "a word about the missing topic")
        create_topic(own_broker, TOPICS.dead_letters, 2)
        daemon.wait_until_ready()
        send(0)
        daemon.wait_for_records(STEPS * len(HOSTS))

        own_broker.kill()
        wait_until(lambda: not_ready_because_of_the_broker(daemon), 60.0, "noticed that the broker went")
        assert daemon.get("/-/healthy")[0] == 200
        own_broker.start()
        daemon.wait_until_ready()
        send(STEPS)
        wait_until(
            lambda: daemon.metric("detector_records_total", outcome="decoded") >= 2 * STEPS * len(HOSTS),
            60.0,
            f"everything scored after the outage; see\n{daemon.log()}",
        )

        sent = Counter((source.partition, offset) for source, offset in origins(settings, TOPICS.telemetry))
        scores = [score.json() for score in read_all(settings, TOPICS.scores)]
        scored = Counter((score["origin"]["partition"], score["origin"]["offset"]) for score in scores)
        assert sent.keys() == scored.keys()
        # State was lost with the broker, and the scores say so: each host's first record, twice.
        assert Counter(score["status"] for score in scores)["warming_up"] == 2 * len(HOSTS)

        own_broker.kill()
        wait_until(
            lambda: not_ready_because_of_the_broker(daemon), 60.0, "noticed that the broker went again"
        )
        assert daemon.terminate() == 0, daemon.log()
        assert daemon.stop_s < GRACE_S
        assert daemon.log().count("Kafka works again") == 2
