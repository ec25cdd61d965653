"""A single-node Apache Kafka of one's own, on free ports of 127.0.0.1, in a temporary folder."""

import base64
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

REPOSITORY = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/logs
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
# A broker that was killed is let back in only when its old session has ended.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""


class BrokerNotStartedError(RuntimeError):
    """The broker process ended, or did not answer in time; the message ends with its log."""


def jar_folder() -> Path:
    """Return where fetch.sh puts the jars."""
    return Path(os.environ.get("DETECTOR_KAFKA_JARS") or REPOSITORY / ".cache" / "kafka")


def why_unavailable() -> str | None:
    """Return why no broker can be started here, or None if one can."""
    if shutil.which("java") is None:
        return "no java on the PATH; install a Java 17 runtime"
    if not any(jar_folder().glob("kafka_2.13-*.jar")):
        return f"no Kafka jars in {jar_folder()}; run tests/kafka/fetch.sh (needs Maven)"
    return None


def free_ports(n: int) -> list[int]:
    """Return n distinct ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class RealBroker:
    """Started by ``with``; ``kill`` and ``start`` in between keep its data and its ports."""

    format_options: tuple[str, ...] = ()
    """More of what the storage is formatted with."""

    def __init__(self, heap_mb: int = 512) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="detector-kafka-"))
        self._heap_mb = heap_mb
        self._process: subprocess.Popen[bytes] | None = None
        self.port, self._controller_port = free_ports(2)
        self.bootstrap_servers = f"127.0.0.1:{self.port}"
        self._properties = self._folder / "server.properties"
        self._properties.write_text(self.properties())

    def properties(self) -> str:
        """Return its ``server.properties``."""
        return _PROPERTIES.format(port=self.port, controller_port=self._controller_port, folder=self._folder)

    @property
    def log_dir(self) -> Path:
        """The folder of partition logs."""
        return self._folder / "logs"

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BrokerNotStartedError("the broker is not running")
        return self._process.pid

    def _java(self, *options: str) -> list[str]:
        return ["java", "-cp", f"{jar_folder()}/*", *options]

    def start(self) -> None:
        """Return when the broker answers a metadata request.

        Raises:
            BrokerNotStartedError: It ended, or was silent for a minute.
        """
        if not self.log_dir.exists():
            # Without its first bits it never begins with a dash, which would read as an option.
            cluster_id = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
            subprocess.run(
                self._java(
                    "kafka.tools.StorageTool",
                    *("format", "-t", cluster_id, "-c", str(self._properties), "--standalone"),
                    *self.format_options,
                ),
                check=True,
                capture_output=True,
                timeout=START_TIMEOUT_S,
            )
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java(f"-Xmx{self._heap_mb}m", "-Xms256m", "kafka.Kafka", str(self._properties)),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise BrokerNotStartedError(f"no broker on port {self.port}\n{self._log_tail()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End the process as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Let the process flush and end."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
        self._process = None

    def _log_tail(self) -> str:
        return (self._folder / "server.log").read_text(errors="replace")[-3000:]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


# ApiVersions v0, correlation id 1, no client id: answered only once the broker serves requests.
_API_VERSIONS = bytes.fromhex("0000000a0012000000000001ffff")


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(_API_VERSIONS)
            return len(connection.recv(4)) == 4
    except OSError:
        return False
