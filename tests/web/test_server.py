"""Tests for detector.web.server: the real server, asked over HTTP."""

import gzip
import json
import os
import resource
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry, Gauge

from detector.web.health import Health
from detector.web.server import WebError, WebServer, application
from tests.web.made_up import Clock


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Served:
    """A server on a free port, and the health it tells of."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.health = Health(late_after_s=15.0, clock=self.clock)
        self.registry = CollectorRegistry()
        for i in range(50):
            Gauge(f"detector_made_up_{i}_ratio", "A gauge.", registry=self.registry).set(i / 50)
        self.server = WebServer(application(self.registry, self.health), "127.0.0.1", 0)

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.server.port}{path}", method=method, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return Answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    served.server.start()
    yield served
    served.server.stop()


def test_metrics_in_the_plain_format(served: Served) -> None:
    answer = served.ask("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert b"detector_made_up_49_ratio 0.98\n" in answer.body


def test_metrics_in_openmetrics_when_asked_for(served: Served) -> None:
    answer = served.ask("/metrics", Accept="application/openmetrics-text;version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


def test_metrics_are_compressed_when_asked_for(served: Served) -> None:
    answer = served.ask("/metrics", **{"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert b"detector_made_up_49_ratio 0.98\n" in gzip.decompress(answer.body)


@pytest.mark.parametrize("path", ["/-/healthy", "/livez", "/healthz"])
def test_healthy_until_the_heartbeat_is_late(served: Served, path: str) -> None:
    assert served.ask(path).status == 200
    served.clock.now_s += 16
    answer = served.ask(path)
    assert answer.status == 503
    assert b"no progress for 16 s" in answer.body
    served.health.heartbeat(served.clock.now_s)
    assert served.ask(path).status == 200


@pytest.mark.parametrize("path", ["/-/ready", "/readyz"])
def test_ready_says_what_is_missing(served: Served, path: str) -> None:
    answer = served.ask(path)
    assert answer.status == 503
    assert set(json.loads(answer.body)["missing"]) == {"models", "broker", "partitions"}
    served.health.models_loaded = True
    served.health.broker_reachable = True
    served.health.assigned_partitions = 3
    answer = served.ask(path)
    assert (answer.status, json.loads(answer.body)) == (200, {"ready": True, "missing": {}})
    served.health.note("hosts", "bootstrapping: 312 of 500 records of an entity")
    answer = served.ask(path)
    assert answer.status == 200
    assert json.loads(answer.body)["notes"] == {"hosts": "bootstrapping: 312 of 500 records of an entity"}
    served.health.broker_reachable = False
    served.health.broker_problem = "output topics alerts do not exist; create them"
    assert json.loads(served.ask(path).body)["missing"] == {"broker": served.health.broker_problem}


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/livez", "/healthz", "/"])
def test_head_is_answered_without_a_body(served: Served, path: str) -> None:
    answer = served.ask(path, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")


def test_other_paths_and_methods_are_refused(served: Served) -> None:
    assert served.ask("/no/such/page").status == 404
    assert served.ask("/metrics", method="POST").status == 405


def test_stop_frees_the_port_and_ends_the_thread(served: Served) -> None:
    port = served.server.port
    served.server.stop()
    assert "web" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    served.server.stop()


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = WebServer(application(CollectorRegistry(), Health()), "127.0.0.1", port)
        with pytest.raises(WebError, match=rf"cannot listen on 127.0.0.1:{port}: .*web.listen_address"):
            server.start()


def test_an_address_of_another_machine_is_named() -> None:
    server = WebServer(application(CollectorRegistry(), Health()), "192.0.2.1", 0)
    with pytest.raises(WebError, match=r"cannot listen on 192.0.2.1:0"):
        server.start()


def half_asked(served: Served) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", served.server.port), timeout=5)
    connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ")
    return connection


def was_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_connection_without_a_whole_request_is_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.web.server._LONGEST_CONNECTION_S", 0.1)
    idle = socket.create_connection(("127.0.0.1", served.server.port), timeout=5)
    with idle, half_asked(served) as half:
        assert was_closed(idle)
        assert was_closed(half)


def test_an_answer_that_nobody_reads_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.web.server._LONGEST_CONNECTION_S", 0.1)
    served = Served()
    for i in range(100):
        Gauge(f"detector_much_{i}_ratio", "x" * 100_000, registry=served.registry)
    served.server.start()
    try:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(5)
            connection.connect(("127.0.0.1", served.server.port))
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            give_up_at = time.monotonic() + 5
            while not (found := open_connections(served)):
                assert time.monotonic() < give_up_at
            while open_connections(served):
                assert time.monotonic() < give_up_at
                time.sleep(0.01)
            assert found == 1
    finally:
        served.server.stop()


def open_connections(served: Served) -> int:
    assert served.server._server is not None
    return len(served.server._server.server_state.connections)


def test_whoever_holds_connections_open_keeps_nobody_from_asking(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.web.server._MOST_CONNECTIONS", 5)
    with ExitStack() as held:
        connections = [held.enter_context(half_asked(served)) for _ in range(20)]
        assert served.ask("/-/healthy").status == 200
        assert all(was_closed(connection) for connection in connections[:15])
        assert open_connections(served) <= 5


def test_connections_that_cannot_be_accepted_are_told_once(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert served.ask("/-/healthy").status == 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as held:
        connection = held.enter_context(socket.socket())
        limit = os.dup(connection.fileno())
        os.close(limit)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            connection.connect(("127.0.0.1", served.server.port))
            connection.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
            give_up_at = time.monotonic() + 5
            while "cannot accept connections" not in caplog.text:
                assert time.monotonic() < give_up_at
                time.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        connection.settimeout(5)
        assert connection.recv(12) == b"HTTP/1.1 200"
    assert [record.message for record in caplog.records] == [
        "the HTTP server cannot accept connections: Too many open files; "
        "raise the limit of open files (LimitNOFILE)"
    ]
