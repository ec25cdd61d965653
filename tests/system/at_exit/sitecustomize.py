"""Loaded by an interpreter whose PYTHONPATH starts here: writes the names of its modules when it ends."""

import atexit
import os
import sys


def _write() -> None:
    with open(os.environ["DETECTOR_TEST_MODULES_FILE"], "w", encoding="utf-8") as file:
        file.write("\n".join(sorted(sys.modules)))


if "DETECTOR_TEST_MODULES_FILE" in os.environ:
    atexit.register(_write)
