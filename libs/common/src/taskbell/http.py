"""The HTTP server of each process: `/livez`, `/readyz`, `/metrics`, and the routes that a service adds."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from taskbell.errors import SettingsError
from taskbell.health import Health
from taskbell.logs import logger
from taskbell.metrics import Metrics

CONNECTIONS = 200
"""Connections of each server. For one more, the one that has been idle for longest is closed."""

REQUEST = 10.0
"""Seconds in which a client must have sent the head and the body of its next request."""

ANSWER = 60.0
"""Seconds after the last answer, or the first byte, within which a request must have been answered and read."""


def operations(health: Health, metrics: Metrics) -> list[BaseRoute]:
    """The routes that orchestrators and Prometheus use.

    `/livez` answers 200 while the event loop runs. `/readyz` answers 503 while a part waits for something that it
    cannot work without, and 200 if all parts are ready or degraded; the body names every part.
    """

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        return JSONResponse(health.report(), status_code=200 if health.ready else 503)

    async def measured(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", measured)]


class _Connection(H11Protocol):
    """A connection whose client must send its requests in time, and which makes room for newer ones while it is idle.

    Otherwise a few hundred connections that send nothing, or a byte now and then, would keep everybody else out.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._await_request()
        if len(self.connections) > CONNECTIONS:
            idle = [it for it in self.connections if isinstance(it, _Connection) and it.is_idle]
            min(idle, key=lambda it: it.idle_since, default=self).close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._await_request()
        super().on_response_complete()

    @property
    def is_idle(self) -> bool:
        """True if the next thing to come is a request, or the rest of one."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def close(self) -> None:
        """Closes the connection at once."""
        self.transport.abort()

    def _await_request(self) -> None:
        self.idle_since = self.loop.time()
        self._close_after(REQUEST)

    def _close_after(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        if self.is_idle or self.loop.time() - self.idle_since >= ANSWER:
            self.close()
        else:
            self._close_after(ANSWER - (self.loop.time() - self.idle_since))


class _Server(uvicorn.Server):
    """Installs no signal handlers: the process has its own, because it must also drain consumers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves some routes on one address.

    Args:
        port: 0 takes any free one; the attribute `port` holds it after `bind()`.
        setting: the name of the setting that gives the port, for error messages.
        trusted_proxies: addresses and networks, separated by commas, whose X-Forwarded-For names the client.
    """

    def __init__(
        self,
        host: str,
        port: int,
        routes: Sequence[BaseRoute],
        *,
        name: str = "http",
        setting: str = "HTTP_PORT",
        trusted_proxies: str = "",
    ) -> None:
        self.name = name
        self._setting = setting
        self._host = host
        self.port = port
        self._trusted_proxies = trusted_proxies
        self._app = Starlette(routes=list(routes))
        # A redirect would lead to whatever host the request names.
        self._app.router.redirect_slashes = False
        self._socket: socket.socket | None = None

    def bind(self) -> None:
        """Takes the address, before anything else starts.

        Raises:
            SettingsError: the address is in use or not ours.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        bound = socket.socket(family)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((self._host, self.port))
            # Two processes can both bind an address; only one of them can listen on it.
            bound.listen(socket.SOMAXCONN)
        except OSError as error:
            bound.close()
            msg = f"cannot listen on {self._host}:{self.port} ({error.strerror}): change HTTP_HOST or {self._setting}"
            raise SettingsError(msg) from None
        self.port = bound.getsockname()[1]
        self._socket = bound

    @property
    def url(self) -> str:
        """The URL on which it listens."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop`."""
        assert self._socket is not None, "bind() comes first"
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=1,  # requests are short, and the process's supervisor waits for its end
            timeout_keep_alive=5,
            http=_Connection,
            ws="none",
            proxy_headers=bool(self._trusted_proxies),
            forwarded_allow_ips=self._trusted_proxies,
        )
        server = _Server(config)
        logger("http").info("http.listening", url=self.url)

        async def watch() -> None:
            await stop.wait()
            server.should_exit = True

        watching = asyncio.create_task(watch())
        try:
            await server.serve(sockets=[self._socket])
        finally:
            watching.cancel()
