"""The systemd units: what they deny is nothing that the commands need."""

import errno
import platform
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from detector.config import load_config
from tests.kafka.broker import free_ports
from tests.system.process import command

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
# Numbers on x86-64, as systemd groups them.
NUMBERS = {
    "@privileged": "92,93,94,260,159,305,227,164,176,313,175,173,172,246,320,169,167,168,156,163,321,126,161,"
    "300,301,304,155,179,171,122,116,170,117,113,105,153",
    "@resources": "251,237,256,279,203,314,142,144,238,450,141,160",
}

x86_64_linux = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="numbers of system calls are x86-64's"
)


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def confined(unit: Path, arguments: list[str]) -> list[str]:
    """Return a command that runs without what a unit denies."""
    of_unit = settings(unit)
    denied = [v for v in of_unit["SystemCallFilter"] if v.startswith("~")]
    numbers = ",".join(NUMBERS[group] for value in denied for group in value.removeprefix("~").split())
    error = getattr(errno, of_unit.get("SystemCallErrorNumber", [""])[0], 0)
    return [sys.executable, str(ROOT / "tests/deploy/seccomp_exec.py"), numbers, str(error), *arguments]


@x86_64_linux
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_commands_work_without_what_is_denied(unit: Path) -> None:
    check = [*command(), "check", str(ROOT / "configs" / "hosts.yaml")]
    result = subprocess.run(confined(unit, check), capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "hosts.yaml: ok" in result.stdout


@x86_64_linux
def test_what_is_denied_is_an_error_and_kills_nobody() -> None:
    chown = [sys.executable, "-c", "import os; os.chown('/', 0, 0)"]
    result = subprocess.run(
        confined(UNITS[1], chown), capture_output=True, text=True, check=False, timeout=60
    )
    assert "PermissionError" in result.stderr


@x86_64_linux
def test_the_daemon_runs_without_what_is_denied_and_may_start_a_training_job(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    config = tmp_path / "config.yaml"
    config.write_text(
        "kafka: {bootstrap_servers: ['127.0.0.1:1']}\n"
        "inputs: [{name: t, topics: t}]\n"
        f"detectors: [{{name: d, input: t, features: [a], store: {tmp_path}/store, bootstrap: {{}}}}]\n"
        f"web: {{listen_address: '127.0.0.1:{port}'}}\n"
    )
    code = (
        "from pathlib import Path; from detector.bootstrap.training_child import TrainingChild; "
        f"TrainingChild(Path('{config}'), 'd', 30).stop()"
    )
    subprocess.run(confined(UNITS[1], [sys.executable, "-c", code]), check=True, timeout=60)
    with subprocess.Popen(
        confined(UNITS[1], [*command(), "run", str(config)]), stderr=subprocess.PIPE
    ) as daemon:
        give_up_at = time.monotonic() + 60
        while not answers(port) and daemon.poll() is None and time.monotonic() < give_up_at:
            time.sleep(0.1)
        daemon.terminate()
        _, log = daemon.communicate(timeout=30)
    assert daemon.returncode == 0, log.decode()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/healthy", timeout=5) as response:
            return bool(response.status == 200)
    except urllib.error.URLError:
        return False


def test_the_store_of_the_examples_is_where_the_daemon_may_write() -> None:
    (directory,) = settings(ROOT / "deploy/systemd/detector.service")["StateDirectory"]
    for path in (ROOT / "configs").glob("*.yaml"):
        for detector in load_config(path).detectors:
            assert detector.store.is_relative_to(f"/var/lib/{directory}")
