"""Tests for deploy/compose.yaml: what its services need is there, and nothing is restarted for ever."""

from pathlib import Path
from typing import Any

import yaml

from detector.config import load_config

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
OURS = ("detector", "notify", "train")


def test_every_topic_of_the_configuration_is_made_before_anybody_needs_it() -> None:
    config = load_config(ROOT / "configs" / "hosts.yaml")
    outputs = config.outputs
    wanted = {topic for entry in config.inputs for topic in entry.topics}
    wanted |= {str(outputs.scores_topic), outputs.alerts_topic, outputs.dead_letter_topic}
    (script,) = SERVICES["topics"]["command"]
    made = script.partition("for topic in ")[2].partition(";")[0].split()
    assert set(made) == wanted
    for name in OURS:
        assert SERVICES[name]["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}
    assert SERVICES["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert SERVICES["topics"]["image"] == SERVICES["kafka"]["image"]


def test_nothing_is_restarted_for_ever() -> None:
    assert [SERVICES[name].get("restart") for name in OURS] == ["on-failure:5", "on-failure:5", None]


def test_training_takes_whatever_the_topic_holds() -> None:
    assert all("hosts.yaml" in SERVICES[name]["volumes"][0] for name in OURS)
    (detector,) = load_config(ROOT / "configs" / "hosts.yaml").detectors
    assert (detector.training.files, detector.training.from_time, detector.training.until_time) == (
        (),
        None,
        None,
    )
