"""The configuration that the demonstration runs with: an ordinary one, written to a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

TOPIC = "demo.telemetry"
SCORES_TOPIC = "demo.scores"
ALERTS_TOPIC = "demo.alerts"
DEAD_LETTER_TOPIC = "demo.dlq"
DETECTORS = ("gmm", "hmm")
"""Two detectors over one input, each named after its family."""
# Records over which surprise is averaged: one detector adds up what is faint, the other judges each alone.
_RECORDS = {"gmm": 3, "hmm": 1}


@dataclass(frozen=True, slots=True)
class Budget:
    """One false alarm per server in so many days."""

    days: int = 1

    @property
    def per_server_day(self) -> float:
        """False alarms promised, per server and day."""
        return 1 / self.days


def write_configuration(
    folder: Path,
    bootstrap_servers: str,
    features: Sequence[str],
    training_file: Path,
    address: str,
    budget: Budget,
) -> Path:
    """Write ``demo.yaml`` into ``folder`` and return its path.

    Args:
        folder: Also holds the bundles.
        bootstrap_servers: Of the broker, host:port.
        features: The metrics, in the order of the data.
        training_file: What ``detector train`` learns from.
        address: Where the daemon listens, host:port.
        budget: Of both detectors.
    """
    configuration = {
        "kafka": {
            "bootstrap_servers": bootstrap_servers,
            "client": "confluent",
            "group_id": "detector-demo",
            "session_timeout": "6s",
        },
        "inputs": [{"name": "servers", "topics": [TOPIC]}],
        "detectors": [
            {
                "name": family,
                "input": "servers",
                "features": list(features),
                "members": [{"family": family, "predictor": "autoregressive", "records": _RECORDS[family]}],
                "store": str(folder / "bundles"),
                "alerting": {"budget": {"false_alarms": 1, "per": "entity", "every": f"{budget.days}d"}},
                "training": {"files": [str(training_file)]},
            }
            for family in DETECTORS
        ],
        "outputs": {
            "scores_topic": SCORES_TOPIC,
            "alerts_topic": ALERTS_TOPIC,
            "dead_letter_topic": DEAD_LETTER_TOPIC,
        },
        "web": {"listen_address": address},
        "logging": {"format": "console"},
    }
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")
    return path
