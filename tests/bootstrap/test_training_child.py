"""Tests for detector.bootstrap.training_child: the real command, started, heard and ended."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detector.bootstrap.training_child import Ended, TrainingChild
from tests.system.process import wait_until

CONFIG = """
kafka: {bootstrap_servers: ["127.0.0.1:1"]}
inputs: [{name: telemetry, topics: telemetry}]
detectors: [{name: hosts, input: telemetry, features: [cpu], training: {files: %s}}]
"""
ROWS = "time,cpu\n" + "\n".join(f"{60 * i},{i % 7}" for i in range(40)) + "\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "rows.csv").write_text(ROWS)
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG % (tmp_path / "rows.csv"))
    return path


def test_a_job_with_too_few_records_says_how_many_there_are(config: Path) -> None:
    child = TrainingChild(config, "hosts", 500)
    while (ended := child.ended()) is None:
        time.sleep(0.05)
    assert ended == Ended(3, "40\n")


def test_a_job_that_fails_says_why(config: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("time,memory\n1,2\n")
    child = TrainingChild(config, "hosts", 500)
    while (ended := child.ended()) is None:
        time.sleep(0.05)
    assert ended.code == 2
    assert "rows.csv: no column 'cpu'" in ended.output


def test_a_job_goes_after_scoring_and_is_ended_at_once(config: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.csv")
    config.write_text(CONFIG % (tmp_path / "never.csv"))
    child = TrainingChild(config, "hosts", 500)
    pid = child._process.pid
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)
    assert child.ended() is None
    started = time.monotonic()
    child.stop()
    assert time.monotonic() - started < 10.0
    assert not Path(f"/proc/{pid}").exists()


def test_a_job_ends_with_the_process_that_started_it(config: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.csv")
    config.write_text(CONFIG % (tmp_path / "never.csv"))
    script = (
        "import sys, time; from pathlib import Path; from detector.bootstrap.training_child import *\n"
        "child = TrainingChild(Path(sys.argv[1]), 'hosts', 500); print(child._process.pid, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(config)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        # It begins to listen once it has begun.
        parent.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 30.0, f"the end of {pid}")
