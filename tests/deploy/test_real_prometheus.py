"""A real Prometheus scrapes the real page with the shipped rules, hostile entity names included."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from detector.web.health import Health
from detector.web.server import WebServer, application
from tests.conftest import unavailable
from tests.web.made_up import everything_reported

RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "rules"
ENTITIES = ["web-17", 'quote"', "line\nbreak", "back\\slash", "🔥", "a" * 256, "{}=,"]
WAIT_S = 30.0


class Prometheus:
    """A server of the test's own, on a free port."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{query}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]
        except urllib.error.URLError:
            return None

    def wait_for(self, condition: Callable[[], object]) -> Any:
        give_up_at = time.monotonic() + WAIT_S
        while time.monotonic() < give_up_at:
            if result := condition():
                return result
            time.sleep(0.1)
        pytest.fail(f"not true within {WAIT_S} s; targets: {self.ask('targets')}")

    def series(self, query: str) -> list[dict[str, Any]]:
        data = self.ask("query", query=query)
        return data["result"] if data else []


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    program = shutil.which("prometheus")
    if program is None:
        unavailable("no prometheus on the PATH: install Prometheus (Debian package prometheus)")
    registry = everything_reported(ENTITIES)
    server = WebServer(application(registry, Health()), "127.0.0.1", 0)
    server.start()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES / "*.yml")],
        "scrape_configs": [
            {"job_name": "detector", "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}]}
        ],
    }
    path = tmp_path / "prometheus.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={path}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(timeout=20)
        server.stop()


def test_it_takes_the_page_and_fires_the_rules(prometheus: Prometheus) -> None:
    up = prometheus.wait_for(lambda: prometheus.series('up{job="detector"} == 1'))
    assert len(up) == 1
    firing = prometheus.wait_for(lambda: prometheus.series("detector_alert_firing == 1"))
    assert {series["metric"]["entity"] for series in firing} == set(ENTITIES)
    assert prometheus.series("detector_scored_records_total")[0]["metric"]["status"] == "scored"

    def alerting() -> set[str]:
        series = prometheus.series('ALERTS{alertname="DetectorAnomaly", alertstate="firing"}')
        return {entry["metric"]["entity"] for entry in series}

    assert prometheus.wait_for(alerting) == set(ENTITIES)
    groups = prometheus.ask("rules")["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
