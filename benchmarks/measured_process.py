"""A process under measurement: its CPU over all threads, and its largest memory, as Linux counts them."""

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STOP_TIMEOUT_S = 15.0


class MeasuredProcess:
    """Started by ``with``, ended with it; what it prints is kept for when it fails."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._command = list(command)
        self._environment = {**os.environ, **(environment or {})}
        self._output = tempfile.TemporaryFile()  # noqa: SIM115, closed by __exit__

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=self._output, stderr=subprocess.STDOUT
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_TIMEOUT_S)
        self._output.close()

    def alive(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout_s: float) -> None:
        self._process.wait(timeout_s)

    def cpu_s(self) -> float:
        """Return user and system time of all its threads so far, ended ones included."""
        with open(f"/proc/{self._process.pid}/stat") as stat:
            # The name, in parentheses, may hold spaces.
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def peak_memory_mb(self) -> float:
        """Return its largest resident set so far."""
        with open(f"/proc/{self._process.pid}/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        return float("nan")

    def output(self) -> str:
        """Return the end of what it printed."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")[-4000:]
