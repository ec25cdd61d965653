"""A daemon at work, and the versions that become its detector's champion meanwhile."""

import shutil
from pathlib import Path

import pytest

from detector.bundles.store import BundleStore
from tests.kafka.broker import RealBroker
from tests.system.conftest import TRAINING_STEPS, Trained, configuration, new_topics, settings_of
from tests.system.process import Daemon, run, wait_until
from tests.system.telemetry import HOSTS, produce, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

STEPS = 20


def test_what_is_trained_takes_over_and_goes_again_and_what_is_damaged_does_not(
    trained: Trained, kafka_broker: RealBroker, tmp_path: Path
) -> None:
    settings, topics = settings_of(kafka_broker), new_topics(kafka_broker, partitions=2)
    folder = tmp_path / "store"
    shutil.copytree(trained.store, folder)
    store = BundleStore(folder)
    first = store.alias("watch")
    assert first is not None
    config = configuration(kafka_broker, topics, folder)
    sent = 0

    def versions_of_new_scores() -> set[str]:
        nonlocal sent
        start = TRAINING_STEPS + sent * STEPS
        produce(settings, topics.telemetry, *trained.telemetry.records(start, start + STEPS))
        sent += 1
        total = sent * STEPS * len(HOSTS)
        wait_until(lambda: len(read_all(settings, topics.scores)) == total, 60.0, f"{total} scores")
        return {score.json()["version"] for score in read_all(settings, topics.scores)[-STEPS:]}

    with Daemon(config, tmp_path) as daemon:

        def serves(version: str) -> None:
            model = "detector_model_info"
            wait_until(lambda: daemon.metric(model, version=version) == 1, 30.0, f"serves\n{daemon.log()}")

        daemon.wait_until_ready()
        assert versions_of_new_scores() == {first}
        # What the topic holds by now is far less than trained the champion.
        done = run("train", str(daemon.config), "watch")
        assert done.returncode == 4, done.stderr
        assert store.alias("watch") == first
        done = run("train", str(daemon.config), "watch", "--promote-anyway")
        assert done.returncode == 0, done.stderr
        second = store.alias("watch")
        assert second not in (None, first)
        serves(str(second))
        assert versions_of_new_scores() == {second}
        done = run("models", "promote", str(daemon.config), "watch", first)
        assert done.returncode == 0, done.stderr
        serves(first)
        tensors = folder / "watch" / str(second) / "model.safetensors"
        tensors.write_bytes(tensors.read_bytes()[:-8])
        store.set_alias("watch", str(second))
        refused = "detector_versions_refused_total"
        wait_until(lambda: daemon.metric(refused, detector="watch") == 1, 30.0, "it is refused")
        assert "altered or cut short" in daemon.log()
        assert versions_of_new_scores() == {first}
        assert daemon.terminate() == 0, daemon.log()
