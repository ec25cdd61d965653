"""``detector train`` in a process of its own: started, asked now and then, ended with this process."""

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

TOO_FEW_EXIT_CODE = 3
"""What ``detector train --fewest`` ends with where records are too few; it printed how many there are."""
_NICER_BY = 10
_STOP_TIMEOUT_S = 3.0


class Ended(NamedTuple):
    """How a job ended."""

    code: int
    """0: there is a new champion; negative: the signal that ended it."""
    output: str
    """What it printed; its log went where this process's goes."""


class TrainingChild:
    """A training job on the records that the input's topics hold now.

    It is nicer than this process, so that scoring goes first, and ends when this process does, however that
    came about: it reads its standard input, which nobody writes, to the end.

    Args:
        config: The configuration file.
        detector: One of its detectors.
        fewest: Records of an entity that it takes; with fewer the job says how many there are.

    Raises:
        OSError: It cannot be started: no memory, or no folder for what it prints.
    """

    def __init__(self, config: Path, detector: str, fewest: int) -> None:
        options = ["--fewest", str(fewest), "--end-with-stdin"]
        # A file, not a pipe: nobody has to read along. Open until the job has ended.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "detector.cli.main", "train", str(config), detector, *options],
            stdin=subprocess.PIPE,
            stdout=self._output,
            # Ctrl-C on a terminal is for us alone: children are ended in order.
            start_new_session=True,
        )
        nicer = os.getpriority(os.PRIO_PROCESS, 0) + _NICER_BY
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, nicer)

    def ended(self) -> Ended | None:
        """Return how it ended, once; None while it runs."""
        code = self._process.poll()
        return None if code is None else self._gathered(code)

    def stop(self) -> None:
        """End it, at the latest after three seconds."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._gathered(self._process.wait())

    def _gathered(self, code: int) -> Ended:
        self._output.seek(0)
        output = self._output.read().decode(errors="replace")
        self._output.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return Ended(code, output)
