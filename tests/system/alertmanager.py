"""A real Alertmanager of a test's own, which tells one webhook of everything at once."""

import json
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.conftest import unavailable
from tests.kafka.broker import free_ports


def program() -> str:
    """Return where Alertmanager is; without it the test is skipped, or fails with CI=true."""
    found = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if found is None:
        unavailable("no Alertmanager on the PATH: install it (Debian package prometheus-alertmanager)")
    return found


class Alertmanager:
    """Started by ``with``; ``kill`` and ``start`` in between keep its port and its memory on disk."""

    def __init__(self, folder: Path, webhook_url: str, cluster: Sequence[int] = ()) -> None:
        """Write the configuration: no waiting, and every alert for itself.

        Args:
            folder: For its files.
            webhook_url: Told of every alert.
            cluster: Ports on which the replicas of a cluster talk to one another, its own first.
        """
        self._cluster = ["--cluster.listen-address="]
        if cluster:
            self._cluster = [f"--cluster.listen-address=127.0.0.1:{cluster[0]}"]
            self._cluster += [f"--cluster.peer=127.0.0.1:{port}" for port in cluster[1:]]
            # How long a replica waits for each of those before it to tell; the groups' interval has to be
            # longer, or it tells of what is over meanwhile. By default 15 seconds and 5 minutes.
            self._cluster += ["--cluster.peer-timeout=400ms", "--cluster.gossip-interval=50ms"]
        self._program = program()
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        config = {
            "route": {
                "receiver": "test",
                "group_by": ["..."],
                "group_wait": "0s",
                "group_interval": "2s",
                "repeat_interval": "1h",
            },
            "receivers": [{"name": "test", "webhook_configs": [{"url": webhook_url, "send_resolved": True}]}],
        }
        self._config = folder / "alertmanager.yml"
        self._config.write_text(json.dumps(config))  # JSON is YAML
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = 60.0) -> None:
        """Return when it is ready."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    f"--config.file={self._config}",
                    f"--storage.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    *self._cluster,
                ],
                stdout=log,
                stderr=log,
            )
        give_up_at = time.monotonic() + timeout_s
        while self._get("/-/ready") is None:
            log_text = (self._folder / "log").read_text()
            assert self._process.poll() is None, log_text
            assert time.monotonic() < give_up_at, log_text
            time.sleep(0.05)

    def stop(self) -> None:
        """End it; what it knows of notifications sent is kept on disk."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def peers(self) -> int:
        """Return how many replicas it knows, itself included."""
        status: dict[str, Any] = json.loads(self._get("/api/v2/status") or b"{}")
        return len(status.get("cluster", {}).get("peers", []))

    def ends_s(self, entity: str) -> float:
        """Return when the alert about an entity ends unless it is repeated; -inf where there is none."""
        alerts: list[dict[str, Any]] = json.loads(self._get("/api/v2/alerts") or b"[]")
        ends = [alert["endsAt"] for alert in alerts if alert["labels"].get("entity") == entity]
        return max((datetime.fromisoformat(text).timestamp() for text in ends), default=float("-inf"))

    def _get(self, path: str) -> bytes | None:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                content: bytes = answer.read()
                return content
        except (urllib.error.URLError, OSError):
            return None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
