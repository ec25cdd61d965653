"""The real ``detector`` command as a process of its own: started, asked over HTTP, stopped by a signal."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from prometheus_client.parser import text_string_to_metric_families

from tests.kafka.broker import free_ports

REPOSITORY = Path(__file__).resolve().parents[2]
_AT_EXIT = Path(__file__).parent / "at_exit"
GRACE_S = 20.0
"""To end in when asked to: supervisors kill after 30 seconds or so."""


def command() -> list[str]:
    """Return the installed ``detector``, or the same entry point where only the checkout is on the path."""
    script = Path(sys.executable).parent / "detector"
    return [str(script)] if script.exists() else [sys.executable, "-m", "detector.cli.main"]


def environment(*paths: Path, **variables: str) -> dict[str, str]:
    """Return this process's environment with folders in front of PYTHONPATH."""
    path = os.pathsep.join([*map(str, paths), str(REPOSITORY)])
    return {**os.environ, "PYTHONPATH": path, **variables}


def run(*arguments: str, timeout_s: float = 240.0) -> subprocess.CompletedProcess[str]:
    """Run ``detector`` to its end."""
    return subprocess.run(
        [*command(), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environment(),
        check=False,
    )


def total(metrics: str, name: str, **labels: str) -> float:
    """Return the sum of a metric's series that have these labels; NaN where there is none."""
    found = [
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(found) if found else float("nan")


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return once the condition holds.

    Raises:
        AssertionError: It did not within the time.
    """
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


class Daemon:
    """``detector run``, or ``notify``, on a free port; ended by ``with`` at the latest."""

    def __init__(
        self, config: Mapping[str, Any], folder: Path, command: Literal["run", "notify"] = "run"
    ) -> None:
        """Write the configuration, in which the address to listen on is set here."""
        self._folder = folder
        self._command = command
        self._address = f"127.0.0.1:{free_ports(1)[0]}"
        # JSON is YAML.
        self.config = folder / "daemon.yaml"
        section = "web" if command == "run" else "notify"
        listening = {**config.get(section, {}), "listen_address": self._address}
        self.config.write_text(json.dumps({**config, section: listening}))
        self._modules = folder / "modules.txt"
        self._log = folder / "daemon.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.stop_s = float("nan")

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command(), self._command, str(self.config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(_AT_EXIT, DETECTOR_TEST_MODULES_FILE=str(self._modules)),
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def terminate(self, timeout_s: float = 60.0) -> int:
        """Send SIGTERM; return the exit code, and note how long it took in ``stop_s``."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout_s)
        self.stop_s = time.monotonic() - started
        return code

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def modules(self) -> set[str]:
        """Return the modules that the process had imported when it ended."""
        return set(self._modules.read_text().split())

    def shared_objects(self) -> str:
        """Return the files that the running process has mapped."""
        return Path(f"/proc/{self.process.pid}/maps").read_text()

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body; status 0 where nobody listens."""
        try:
            with urllib.request.urlopen(f"http://{self._address}{path}", timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str, **labels: str) -> float:
        """Return ``total`` of what the daemon exports now."""
        return total(self.get("/metrics")[1], name, **labels)

    def wait_until_ready(self, timeout_s: float = 180.0) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, f"the daemon ended:\n{self.log()}"
            return self.get("/-/ready")[0] == 200

        wait_until(ready, timeout_s, f"ready; {self.get('/-/ready')}\n{self.log()}")

    def wait_for_records(self, records: int, timeout_s: float = 180.0) -> None:
        """Return once so many records have become something, scores or dead letters."""

        def done() -> bool:
            assert self.process.poll() is None, f"the daemon ended:\n{self.log()}"
            return self.metric("detector_records_total") >= records

        wait_until(done, timeout_s, f"{records} records; see\n{self.log()}")
