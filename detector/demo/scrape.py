"""The daemon's HTTP port as anybody sees it: ready or not, and its metrics."""

import urllib.request
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Scrape:
    """What the view and the summary take from ``/metrics``."""

    lag: int = 0
    """Records behind the high watermark, over all partitions."""
    p_value_threshold: dict[str, float] = field(default_factory=dict)
    """By detector."""
    dead_letters: int = 0
    """Records that could not be read."""


def is_ready(address: str) -> bool:
    """Return whether ``/-/ready`` answers 200; False while nobody answers at all."""
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=_TIMEOUT_S) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def scrape(address: str) -> Scrape | None:
    """Return the metrics, None if the daemon does not answer."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=_TIMEOUT_S) as response:
            return parse(response.read().decode())
    except OSError:
        return None


def parse(text: str) -> Scrape:
    """Read the metrics in Prometheus' text format."""
    samples: dict[str, list[tuple[str, float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels.get("detector", ""), sample.value))
    return Scrape(
        lag=int(sum(value for _, value in samples.get("detector_consumer_lag_records", []))),
        p_value_threshold=dict(samples.get("detector_p_value_threshold", [])),
        dead_letters=int(sum(value for _, value in samples.get("detector_dead_letters_total", []))),
    )
