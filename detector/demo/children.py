"""The processes of the demonstration: the same commands a user would type, ended by their own id."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_STOP_TIMEOUT_S = 15.0
_LOG_LINES = 15


class ChildFailedError(RuntimeError):
    """A command ended with an error, or when it should not have ended."""


class Child:
    """One ``detector`` command in a process of its own, its output in a file."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "detector.cli.main", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C on the terminal is for us alone: we end our children in order.
                start_new_session=True,
            )

    def running(self) -> bool:
        """Return whether it has not ended."""
        return self._process.poll() is None

    def check_running(self) -> None:
        """Raise unless it is running.

        Raises:
            ChildFailedError: It ended; the message holds the end of its log.
        """
        if not self.running():
            raise self._failure("ended although nobody asked it to")

    def ended_well(self) -> bool:
        """Return False while it runs, True once it has ended with code 0.

        Raises:
            ChildFailedError: It ended with another code; the message holds the end of its log.
        """
        if self.running():
            return False
        if self._process.returncode != 0:
            raise self._failure("failed")
        return True

    def stop(self) -> int:
        """Send SIGTERM, wait, and return the exit code; after 15 s the process is killed."""
        if self.running():
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def last_words(self) -> str:
        """Return the end of what it wrote."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join(f"  {line}" for line in lines)

    def _failure(self, what: str) -> ChildFailedError:
        code = self._process.returncode
        return ChildFailedError(f"detector {self.name} {what} (exit code {code}):\n{self.last_words()}")


@contextlib.contextmanager
def child(name: str, arguments: list[str], folder: Path) -> Iterator[Child]:
    """Start ``detector ARGUMENTS`` and stop it at the end, whatever happened."""
    process = Child(name, arguments, folder / f"{name.replace(' ', '-')}.log")
    try:
        yield process
    finally:
        process.stop()
