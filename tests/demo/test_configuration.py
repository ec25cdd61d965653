"""Tests for detector.demo.configuration."""

from pathlib import Path

from detector.alerting.rules import Budget as RulesBudget
from detector.config import load_config
from detector.demo.configuration import (
    ALERTS_TOPIC,
    DETECTORS,
    SCORES_TOPIC,
    TOPIC,
    Budget,
    write_configuration,
)


def test_configuration_is_an_ordinary_one_that_the_daemon_accepts(tmp_path: Path) -> None:
    training = tmp_path / "train.parquet"
    path = write_configuration(
        tmp_path, "127.0.0.1:1234", ("f01", "f02"), training, "127.0.0.1:9", Budget(days=4)
    )
    config = load_config(path)
    assert config.kafka.bootstrap_servers == ("127.0.0.1:1234",)
    assert config.inputs[0].topics == (TOPIC,)
    assert (config.outputs.scores_topic, config.outputs.alerts_topic) == (SCORES_TOPIC, ALERTS_TOPIC)
    assert [(d.name, d.members[0].family) for d in config.detectors] == [(name, name) for name in DETECTORS]
    for detector in config.detectors:
        assert detector.feature_names == ("f01", "f02")
        assert detector.training.paths() == (training,)
        assert detector.alerting.rules().budget == RulesBudget(1.0, "entity", 4 * 86400.0)
    assert config.web.listen_address == "127.0.0.1:9"
    assert Budget(days=4).per_server_day == 0.25
