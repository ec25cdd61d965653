"""What every test shares: one BLAS thread, and what happens where a program it needs is not installed."""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

# Before numpy is imported anywhere: BLAS reads these once, and threads change the last bits of results.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

pytest_plugins = ["tests.kafka.fixtures"] if importlib.util.find_spec("tests.kafka.fixtures") else []

KAFKA_JARS = Path(
    os.environ.get("DETECTOR_KAFKA_JARS", Path(__file__).resolve().parents[1] / ".cache" / "kafka")
)


def unavailable(reason: str) -> NoReturn:
    """Skip the running test, or fail it with CI=true: there everything has to be installed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("kafka") is None:
        return
    if shutil.which("java") is None:
        unavailable("no java on the PATH: the real Kafka needs Java 17")
    if not (KAFKA_JARS / ".complete").exists():
        unavailable(f"no Kafka jars in {KAFKA_JARS}: run sh tests/kafka/fetch.sh (it needs Maven)")


@pytest.fixture(scope="session")
def promtool() -> str:
    """Path of Prometheus's own checker."""
    path = shutil.which("promtool")
    if path is None:
        unavailable("no promtool on the PATH: install Prometheus (Debian package prometheus)")
    return path
