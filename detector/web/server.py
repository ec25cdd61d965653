"""The one HTTP port: metrics and health, served by uvicorn in a thread of its own."""

import asyncio
import logging
import socket
import threading
import time
from typing import Any, cast

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from detector.web.health import Health

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_MOST_CONNECTIONS = 100
"""One more closes the oldest: whoever holds them open keeps nobody from asking for health."""
_LONGEST_CONNECTION_S = 15.0
"""Then it gets no further answer, and after as long again it is cut, whatever was sent or read of it."""
_ACCEPT_FAILURE_INTERVAL_S = 60.0
_PAGE = "detector: /metrics /-/healthy /-/ready\n"


_log = logging.getLogger(__name__)


class WebError(RuntimeError):
    """The port cannot be served. Nothing else was started; correct ``web.listen_address`` and start again."""


def application(registry: CollectorRegistry, health: Health) -> Starlette:
    """Return the routes; every GET answers HEAD too."""

    # Handlers never wait for anything, so they run on the server's own thread.
    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=None, headers={"content-type": content_type})

    async def healthy(request: Request) -> Response:
        if health.alive():
            return PlainTextResponse("healthy\n")
        age = health.heartbeat_age_s()
        return PlainTextResponse(f"the loop made no progress for {age:.0f} s\n", status_code=503)

    async def ready(request: Request) -> Response:
        missing = health.missing()
        body: dict[str, object] = {"ready": not missing, "missing": missing}
        if health.notes:
            body["notes"] = health.notes
        return JSONResponse(body, status_code=503 if missing else 200)

    async def page(request: Request) -> Response:
        return PlainTextResponse(_PAGE)

    routes = [Route("/", page), Route("/metrics", metrics)]
    routes += [Route(path, healthy) for path in ("/-/healthy", "/livez", "/healthz")]
    routes += [Route(path, ready) for path in ("/-/ready", "/readyz")]
    return Starlette(routes=routes, middleware=[Middleware(GZipMiddleware, minimum_size=1024)])


class _BoundedProtocol(H11Protocol):
    """A connection that does not last, one of a bounded number: scrapes and probes need no more."""

    _ends: tuple[asyncio.TimerHandle, ...] = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._ends = (
            self.loop.call_later(_LONGEST_CONNECTION_S, self.shutdown),
            self.loop.call_later(2 * _LONGEST_CONNECTION_S, transport.abort),
        )
        if len(self.connections) > _MOST_CONNECTIONS:
            oldest = min(
                cast("set[_BoundedProtocol]", self.connections), key=lambda open: open._ends[0].when()
            )
            oldest.transport.abort()
            # The loop tells it later, and the next connection is perhaps there before.
            self.connections.discard(oldest)

    def connection_lost(self, error: Exception | None) -> None:
        for end in self._ends:
            end.cancel()
        super().connection_lost(error)


class _Server(uvicorn.Server):
    """Tells now and then of what the event loop would tell of a hundred times a second."""

    _next_failure_s = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._failed)
        await super().startup(sockets)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if "socket" not in context or not isinstance(error, OSError):
            loop.default_exception_handler(context)
        elif loop.time() >= self._next_failure_s:
            self._next_failure_s = loop.time() + _ACCEPT_FAILURE_INTERVAL_S
            _log.error(
                "the HTTP server cannot accept connections: %s; raise the limit of open files (LimitNOFILE)",
                error.strerror,
            )


class WebServer:
    """Serves an application until ``stop``; start and stop are for one thread."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        self._app = app
        self._address = (host, port)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.port = port
        """The port bound, after ``start``."""

    def start(self) -> None:
        """Bind the port and serve.

        Raises:
            WebError: The address is taken, or is not this machine's.
        """
        listener = _bound(*self._address)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            server_header=False,
            http=_BoundedProtocol,
            backlog=_MOST_CONNECTIONS,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="web", daemon=True
        )
        self._thread.start()
        give_up_at = time.monotonic() + _START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > give_up_at:
                raise WebError(f"the HTTP server on {self._address} did not start; see the log above")
            time.sleep(0.005)

    def stop(self) -> None:
        """Finish the requests in flight, a second at most, and free the port. Does nothing if not started."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(_STOP_TIMEOUT_S)
        self._server = self._thread = None


def _bound(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise WebError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; "
            "choose another web.listen_address, or stop what uses this one"
        ) from error
    return listener
