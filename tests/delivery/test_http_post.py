"""Tests for detector.delivery.http_post: one attempt, whatever the other side does."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
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
