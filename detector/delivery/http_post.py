"""One POST to one fixed place, bounded in time: no redirects, no proxies, no addresses nobody meant."""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from detector import __version__
from detector.delivery.backoff import retry_after_s

_DETAIL_BYTES = 300

# Where clouds answer with credentials; the other such address, 169.254.169.254, is link-local.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200")))


class Outcome(StrEnum):
    """What became of one attempt; also a metric label."""

    DELIVERED = "delivered"
    THROTTLED = "throttled"
    """408 or 429."""
    SERVER_ERROR = "server_error"
    """5xx, or an answer that is no HTTP."""
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    """No such host, nobody listens, or the connection broke."""
    CERTIFICATE = "certificate"
    REJECTED = "rejected"
    """Any other 4xx: the same request would be rejected again."""
    REDIRECT = "redirect"
    """3xx: nobody follows it, or alerts would go where nobody configured."""
    FORBIDDEN_ADDRESS = "forbidden_address"
    """The name leads to a link-local, multicast or metadata address."""

    @property
    def final(self) -> bool:
        """Whether trying again is pointless, or done."""
        return self in _FINAL


_FINAL = {Outcome.DELIVERED, Outcome.REJECTED, Outcome.REDIRECT, Outcome.FORBIDDEN_ADDRESS}


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one attempt."""

    outcome: Outcome
    detail: str = ""
    """For people; holds nothing that was sent."""
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to POST, and as whom."""

    url: str
    timeout_s: float
    """Of one attempt, from the first packet to the last; looking the name up comes before."""
    authorization: str | None = field(default=None, repr=False)
    """The whole header."""
    ca_file: str | None = None
    """PEM file of the authorities trusted; None trusts the system's."""

    @property
    def address(self) -> str:
        """host:port, for metrics and logs: a URL may have secrets in its path."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{_port(self.url)}"


def forbidden(address: str) -> bool:
    """Say whether nobody sensible has an alert receiver at this IP address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in _METADATA


class Poster:
    """Posts to one endpoint, each time over a connection of its own. Used by one thread."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        resolve: Callable[..., list[Any]] = socket.getaddrinfo,
    ) -> None:
        """Args:
        endpoint: Where.
        clock: Monotonic seconds.
        wall_clock: Seconds since 1970, for a Retry-After that is a date.
        resolve: ``socket.getaddrinfo``, or a test's.
        """
        parts = urlsplit(endpoint.url)
        self._endpoint = endpoint
        self._clock, self._wall_clock, self._resolve = clock, wall_clock, resolve
        self._host, self._port = parts.hostname or "", _port(endpoint.url)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._answered: Any = None
        """The address that was connected to last."""
        self._tls = ssl.create_default_context(cafile=endpoint.ca_file) if parts.scheme == "https" else None

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a JSON body and return what came of it; raises nothing that a network can cause."""
        sent = {
            "content-type": "application/json",
            "user-agent": f"detector/{__version__}",
            "connection": "close",
            **headers,
        }
        if self._endpoint.authorization is not None:
            sent["authorization"] = self._endpoint.authorization
        deadline_s = float("inf")
        try:
            addresses = self._addresses()
            if not addresses:
                return Answer(Outcome.FORBIDDEN_ADDRESS, f"{self._host} is no address for a receiver")
            deadline_s = self._clock() + self._endpoint.timeout_s
            with self._connected(addresses, deadline_s) as connection:
                connection.request("POST", self._target, body, sent)
                response = connection.getresponse()
                while 100 <= response.status < 200 and response.status != http.client.SWITCHING_PROTOCOLS:
                    # Early hints and the like, of which the library skips 100 alone: the answer follows.
                    response.headers = None  # type: ignore[assignment]
                    response.begin()
                return self._judged(response)
        except ssl.SSLCertVerificationError as error:
            return Answer(Outcome.CERTIFICATE, error.verify_message)
        except (ValueError, http.client.InvalidURL) as error:
            # A header or a path that cannot be sent, which the text of the error holds whole.
            return Answer(Outcome.CONNECTION, type(error).__name__)
        except (OSError, http.client.HTTPException) as error:
            # The deadline cuts the connection, which looks like any kind of error from here.
            if isinstance(error, TimeoutError) or self._clock() >= deadline_s:
                return Answer(Outcome.TIMEOUT, f"no answer within {self._endpoint.timeout_s:g} s")
            kind = (
                Outcome.SERVER_ERROR if isinstance(error, http.client.BadStatusLine) else Outcome.CONNECTION
            )
            return Answer(kind, f"{type(error).__name__}: {error}"[:_DETAIL_BYTES])

    def _addresses(self) -> list[Any]:
        """Return where the name leads, checked: what is connected to is what was checked."""
        found = self._resolve(self._host, self._port, type=socket.SOCK_STREAM)
        return [entry for entry in found if not forbidden(entry[4][0])]

    @contextmanager
    def _connected(self, addresses: list[Any], deadline_s: float) -> Iterator[http.client.HTTPConnection]:
        with self._socket(addresses, deadline_s) as plain, _cut_at(plain, deadline_s - self._clock()):
            # The library would look the name up again, and connect to what it finds then.
            kind = http.client.HTTPConnection if self._tls is None else http.client.HTTPSConnection
            connection = kind(self._host, self._port)
            secured = plain if self._tls is None else self._tls.wrap_socket(plain, server_hostname=self._host)
            connection.sock = secured
            try:
                yield connection
            finally:
                connection.close()
                secured.close()

    def _socket(self, addresses: list[Any], deadline_s: float) -> socket.socket:
        failure: OSError = OSError("no address")
        # The one that answered last comes first: another may cost its whole share each time.
        addresses = sorted(addresses, key=lambda entry: entry[4] != self._answered)
        for i, (family, kind, protocol, _, address) in enumerate(addresses):
            try:
                attempt = socket.socket(family, kind, protocol)
            except OSError as error:
                # A kernel without IPv6 says so here; the name may have another address.
                failure = error
                continue
            left_s = max(0.001, deadline_s - self._clock())
            try:
                attempt.settimeout(left_s / (len(addresses) - i))
                attempt.connect(address)
                attempt.settimeout(left_s)
                self._answered = address
                return attempt
            except OSError as error:
                attempt.close()
                failure = error
        raise failure

    def _judged(self, response: http.client.HTTPResponse) -> Answer:
        status = response.status
        try:
            body = response.read(_DETAIL_BYTES)
        except (OSError, http.client.HTTPException):
            # Status and headers are the answer; the body is no more than words, and may be broken off.
            body = b""
        text = "".join(c if c.isprintable() else " " for c in body.decode(errors="replace")).strip()
        detail = f"HTTP {status} {response.reason}: {text}"[:_DETAIL_BYTES].rstrip(": ")
        wait_s = retry_after_s(response.getheader("retry-after"), self._wall_clock())
        if 200 <= status < 300:
            return Answer(Outcome.DELIVERED)
        if status in (408, 429):
            return Answer(Outcome.THROTTLED, detail, wait_s)
        if 300 <= status < 400:
            return Answer(
                Outcome.REDIRECT, f"HTTP {status}: redirects are not followed; configure the final URL"
            )
        if 400 <= status < 500:
            return Answer(Outcome.REJECTED, detail)
        return Answer(Outcome.SERVER_ERROR, detail, wait_s)


@contextmanager
def _cut_at(connection: socket.socket, seconds: float) -> Iterator[None]:
    """Shut the connection down after so long: a socket's own timeout starts anew with every byte."""
    # A second handle on the same connection, since wrapping it in TLS takes the first away.
    handle = connection.dup()

    def cut() -> None:
        with contextlib.suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, seconds), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        handle.close()


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)
