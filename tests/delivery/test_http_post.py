"""Tests for detector.delivery.http_post: one attempt, whatever the other side does."""

import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from detector.delivery.http_post import Answer, Endpoint, Outcome, Poster, forbidden
from tests.delivery.http_server import FakeReceiver, Reply


def post(url: str, timeout_s: float = 5.0, **options: Any) -> Answer:
    return Poster(Endpoint(url, timeout_s, **options)).post(b"[]", {"webhook-id": "1"})


def certificate(folder: Path, host: str) -> Path:
    """Make a self-signed certificate and its key in one PEM file."""
    path = folder / f"{host}.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", f"/CN={host}", "-addext", f"subjectAltName=IP:{host}"),
            *("-keyout", str(folder / "key"), "-out", str(folder / "cert")),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text((folder / "key").read_text() + (folder / "cert").read_text())
    return path


@pytest.fixture
def dripping() -> Iterator[int]:
    """A server that sends one byte after another, for ever: no single read takes long."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    while not done.wait(0.02):
                        connection.sendall(b"H")
                except OSError:
                    return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        done.set()
        thread.join()


def test_it_posts_json_and_says_who_it_is() -> None:
    with FakeReceiver() as receiver:
        answer = post(receiver.url + "?team=a", authorization="Bearer hunter2")
    assert answer == Answer(Outcome.DELIVERED)
    [request] = receiver.requests
    assert (request.path, request.body) == ("/hook?team=a", b"[]")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == "Bearer hunter2"
    assert request.headers["webhook-id"] == "1"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize(
    ("status", "outcome", "final"),
    [
        (200, Outcome.DELIVERED, True),
        (204, Outcome.DELIVERED, True),
        (400, Outcome.REJECTED, True),
        (404, Outcome.REJECTED, True),
        (408, Outcome.THROTTLED, False),
        (410, Outcome.REJECTED, True),
        (429, Outcome.THROTTLED, False),
        (500, Outcome.SERVER_ERROR, False),
        (503, Outcome.SERVER_ERROR, False),
    ],
)
def test_a_status_says_whether_to_try_again(status: int, outcome: Outcome, final: bool) -> None:
    with FakeReceiver(lambda request: Reply(status)) as receiver:
        answer = post(receiver.url)
    assert (answer.outcome, answer.outcome.final) == (outcome, final)


def test_patience_that_is_asked_for_is_told() -> None:
    with FakeReceiver(lambda request: Reply(429, (("Retry-After", "7"),), body=b"slow\ndown")) as receiver:
        assert post(receiver.url) == Answer(Outcome.THROTTLED, "HTTP 429 Too Many Requests: slow down", 7.0)


def test_a_redirect_is_not_followed() -> None:
    with FakeReceiver() as elsewhere:
        to = (("Location", elsewhere.url),)
        with FakeReceiver(lambda request: Reply(307, to)) as receiver:
            answer = post(receiver.url)
    assert (answer.outcome, answer.outcome.final) == (Outcome.REDIRECT, True)
    assert elsewhere.requests == []


def test_a_receiver_that_does_not_answer_is_left_in_time() -> None:
    with FakeReceiver(lambda request: Reply(delay_s=30.0)) as receiver:
        began_s = time.monotonic()
        answer = post(receiver.url, timeout_s=0.2)
    assert answer == Answer(Outcome.TIMEOUT, "no answer within 0.2 s")
    assert time.monotonic() - began_s < 5.0


def test_a_receiver_that_answers_byte_by_byte_is_left_in_time(dripping: int) -> None:
    began_s = time.monotonic()
    answer = post(f"http://127.0.0.1:{dripping}/", timeout_s=0.3)
    assert answer.outcome is Outcome.TIMEOUT
    assert time.monotonic() - began_s < 5.0


@contextmanager
def raw_server(*parts: bytes, reset: bool = False, hold_s: float = 0.0) -> Iterator[str]:
    """A server that answers one request with these bytes, and then closes, resets, or says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                request = b""
                while not request.endswith(b"[]"):
                    request += connection.recv(65536) or b"[]"
                connection.sendall(b"".join(parts))
                done.wait(hold_s)
                if reset:
                    # So that the client has read the head.
                    done.wait(0.1)
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        done.set()
        thread.join()


@pytest.mark.parametrize(
    ("rest", "how"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\nzzzz\r\n", {}),
        (b"Content-Length: 1000\r\n\r\nabc", {}),
        (b"Content-Length: 1000\r\n\r\nabc", {"reset": True}),
        (b"Content-Length: 1000\r\n\r\nabc", {"hold_s": 30.0}),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", {"hold_s": 30.0}),
    ],
    ids=["garbage", "short", "reset", "never-ending", "open-stream"],
)
def test_the_status_counts_whatever_becomes_of_the_body(rest: bytes, how: dict[str, Any]) -> None:
    with raw_server(b"HTTP/1.1 200 OK\r\n", rest, **how) as url:
        assert post(url, timeout_s=0.5).outcome is Outcome.DELIVERED
    with raw_server(b"HTTP/1.1 503 busy\r\nRetry-After: 7\r\n", rest, **how) as url:
        answer = post(url, timeout_s=0.5)
    assert (answer.outcome, answer.retry_after_s) == (Outcome.SERVER_ERROR, 7.0)
    assert answer.detail.startswith("HTTP 503 busy")


def test_hints_ahead_of_the_answer_are_none() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    progress = b"HTTP/1.1 102 Processing\r\n\r\n"
    with raw_server(hints, progress, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as url:
        assert post(url) == Answer(Outcome.DELIVERED)
    with raw_server(hints, b"HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nContent-Length: 1\r\n\r\n!") as url:
        assert post(url) == Answer(Outcome.THROTTLED, "HTTP 429 Slow: !", 3.0)


def test_an_address_that_drops_packets_leaves_time_for_the_next_and_is_tried_last_from_then_on() -> None:
    with FakeReceiver() as receiver, socket.socket() as full, ExitStack() as waiting:
        # A backlog that is full drops what comes, as a black hole does.
        full.bind(("127.0.0.2", receiver.port))
        full.listen(0)
        for _ in range(8):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.2", receiver.port))

        def both(host: str, port: int, **options: object) -> list[Any]:
            hosts = ("127.0.0.2", "127.0.0.1")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

        poster = Poster(Endpoint(f"http://hook.example.org:{receiver.port}/", 2.0), resolve=both)
        assert poster.post(b"[]", {}).outcome is Outcome.DELIVERED
        # Those that wait would try again, and be taken for the next post.
        waiting.close()
        full.close()
        with socket.create_server(("127.0.0.2", receiver.port)) as passed_over:
            assert poster.post(b"[]", {}).outcome is Outcome.DELIVERED
            passed_over.setblocking(False)
            with pytest.raises(BlockingIOError):
                passed_over.accept()


def test_an_address_that_this_machine_cannot_have_leaves_the_next() -> None:
    with FakeReceiver() as receiver:

        def both(host: str, port: int, **options: object) -> list[Any]:
            unknown = (250, socket.SOCK_STREAM, 6, "", ("fd00::1", port))
            return [unknown, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        poster = Poster(Endpoint(f"http://hook.example.org:{receiver.port}/", 2.0), resolve=both)
        assert poster.post(b"[]", {}).outcome is Outcome.DELIVERED


def test_nobody_listens_and_no_such_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert post(f"http://127.0.0.1:{port}/").outcome is Outcome.CONNECTION

    def nowhere(*arguments: object, **options: object) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    answer = Poster(Endpoint("http://nowhere.invalid/", 1.0), resolve=nowhere).post(b"", {})
    assert answer.outcome is Outcome.CONNECTION
    assert "Name or service not known" in answer.detail


def test_a_certificate_has_to_be_trusted(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "127.0.0.1")
    with FakeReceiver(certificate=pem) as receiver:
        refused = post(receiver.url)
        accepted = post(receiver.url, ca_file=str(pem))
    assert (refused.outcome, refused.outcome.final) == (Outcome.CERTIFICATE, False)
    assert accepted.outcome is Outcome.DELIVERED
    assert len(receiver.requests) == 1


def test_a_certificate_has_to_be_the_hosts(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "127.0.0.2")
    with FakeReceiver(certificate=pem) as receiver:
        assert post(receiver.url, ca_file=str(pem)).outcome is Outcome.CERTIFICATE
    assert receiver.requests == []


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "100.100.100.200",
        "::ffff:169.254.1.1",
        "0.0.0.0",
        "224.0.0.1",
    ],
)
def test_addresses_where_no_receiver_is(address: str) -> None:
    assert forbidden(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.1.1", "::1", "fd12::1", "93.184.216.34"]
)
def test_addresses_where_one_may_be(address: str) -> None:
    assert not forbidden(address)


def test_a_name_that_leads_to_a_metadata_address_is_not_connected_to() -> None:
    def to_metadata(*arguments: object, **options: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]

    answer = Poster(Endpoint("http://alerts.example.org/", 1.0), resolve=to_metadata).post(b"", {})
    assert (answer.outcome, answer.outcome.final) == (Outcome.FORBIDDEN_ADDRESS, True)


def test_credentials_and_paths_show_nowhere() -> None:
    endpoint = Endpoint("https://hooks.example.org/T0/hunter2", 1.0, "Bearer hunter3")
    assert "hunter3" not in repr(endpoint)
    assert endpoint.address == "hooks.example.org:443"


def test_what_cannot_be_sent_is_not_told() -> None:
    for url, authorization in (
        ("http://127.0.0.1:1/x", "Bearer hunter2\r\nX: y"),
        ("http://127.0.0.1:1/x", "Bearer hunter2€"),
        ("http://127.0.0.1:1/hunter2 x", None),
    ):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            answer = post(url.replace(":1/", f":{port}/"), authorization=authorization)
        assert answer.outcome is Outcome.CONNECTION
        assert answer.detail in ("ValueError", "UnicodeEncodeError", "InvalidURL")
