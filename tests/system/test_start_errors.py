"""What the real command says when it cannot start: one clear line, exit code 2, nothing connected."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.system.process import run

pytestmark = pytest.mark.timeout(600)


def configuration(folder: Path, **changes: Any) -> Path:
    config = {
        # Nobody listens there: connecting would not end with code 2.
        "kafka": {"bootstrap_servers": ["127.0.0.1:1"]},
        "inputs": [{"name": "hosts", "topics": ["telemetry"]}],
        "detectors": [
            {"name": "watch", "input": "hosts", "features": ["cpu"], "store": str(folder / "store")}
        ],
        **changes,
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))
    return path


def test_detector_without_a_bundle_says_to_train_it(tmp_path: Path) -> None:
    done = run("run", str(configuration(tmp_path)))
    assert done.returncode == 2
    assert "'watch' has no champion" in done.stderr
    assert "detector train" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.kafka
def test_port_in_use_is_named(trained: Any, tmp_path: Path) -> None:
    from tests.system.telemetry import FEATURES

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        detector = {
            "name": "watch",
            "input": "hosts",
            "features": list(FEATURES),
            "store": str(trained.store),
        }
        config = configuration(tmp_path, detectors=[detector], web={"listen_address": f"127.0.0.1:{port}"})
        done = run("run", str(config))
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.kafka
def test_bundle_of_other_features_is_refused(trained: Any, tmp_path: Path) -> None:
    detector = {"name": "watch", "input": "hosts", "features": ["cpu", "memory"], "store": str(trained.store)}
    done = run("run", str(configuration(tmp_path, detectors=[detector])))
    assert done.returncode == 2
    assert "was trained on cpu, memory, disk, network, load" in done.stderr
    assert "train it again" in done.stderr
