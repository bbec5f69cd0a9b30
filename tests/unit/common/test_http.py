"""Taking an address to serve on, and serving there beside clients that only hold connections."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from taskbell import http as http_module
from taskbell.errors import SettingsError
from taskbell.http import HttpServer


@pytest.mark.parametrize("setting", ["HTTP_PORT", "PUBLIC_PORT"])
def test_an_address_in_use_is_refused_with_the_settings_that_give_it(setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1:{port} .*: change HTTP_HOST or {setting}$"):
            HttpServer("127.0.0.1", port, [], setting=setting).bind()


class Client:
    """One connection; it says what it is told to, and no more."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def say(self, text: str) -> None:
        self._writer.write(text.encode())
        await self._writer.drain()

    async def get(self, path: str, *headers: str) -> str:
        """The whole answer, on a connection that stays open."""
        await self.say("\r\n".join([f"GET {path} HTTP/1.1", "Host: h", *headers, "", ""]))
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        return head + (await self._reader.readexactly(length)).decode()

    async def is_closed(self) -> bool:
        """Waits until the server has closed it, and returns True; what it still sends does not matter."""
        with suppress(ConnectionResetError):
            await asyncio.wait_for(self._reader.read(), 20)
        return True

    async def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def serving(**given: str) -> AsyncIterator[tuple[Callable[[], "asyncio.Future[Client]"], asyncio.Event]]:
    """A server of our own; yields what connects to it, and the event that /wait waits for."""
    goes_on = asyncio.Event()

    async def who(request: Request) -> Response:
        return PlainTextResponse(request.client.host if request.client else "")

    async def wait(_: Request) -> Response:
        await goes_on.wait()
        return PlainTextResponse("done")

    routes = [Route("/who", who, methods=["GET", "POST"]), Route("/wait", wait)]
    server = HttpServer("127.0.0.1", 0, routes, **given)
    server.bind()
    stop = asyncio.Event()
    running = asyncio.create_task(server.run(stop))
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", server.port)))
        return clients[-1]

    yield lambda: asyncio.ensure_future(connect()), goes_on
    for client in clients:
        await client.close()
    goes_on.set()
    stop.set()
    await running


async def test_idle_connections_keep_nobody_out_and_the_oldest_go_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_module, "CONNECTIONS", 5)
    async with serving() as (connect, goes_on):
        working = await connect()
        answer = asyncio.create_task(working.get("/wait"))
        holders = [await connect() for _ in range(4)]
        for holder in holders[2:]:
            await holder.say("GET /who HTTP/1.1\r\nX-")  # and no more
        await holders[0].get("/who")  # so it is the youngest now
        newcomers = [await connect() for _ in range(3)]
        assert [(await it.get("/who")).split()[1] for it in newcomers] == ["200"] * 3
        assert all([await it.is_closed() for it in holders[1:]])
        assert "127.0.0.1" in await holders[0].get("/who")
        goes_on.set()
        assert (await answer).endswith("done")


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "GET /who HTTP/1.1\r\nHost:",
        "POST /who HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nfive.",
        "GET /who HTTP/1.1\r\nHost: h\r\n\r\nGET /who",
    ],
    ids=["nothing", "half a head", "half a body", "half a second request"],
)
async def test_who_does_not_send_a_request_in_time_is_cut_off(monkeypatch: pytest.MonkeyPatch, sent: str) -> None:
    monkeypatch.setattr(http_module, "REQUEST", 0.2)
    async with serving() as (connect, _):
        slow = await connect()
        await slow.say(sent)
        assert await slow.is_closed()


async def test_who_waits_for_an_answer_is_cut_off_only_if_that_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_module, "REQUEST", 0.1)
    monkeypatch.setattr(http_module, "ANSWER", 0.6)
    async with serving() as (connect, goes_on):
        patient, hopeless = await connect(), await connect()
        answers = [asyncio.create_task(it.get("/wait")) for it in (patient, hopeless)]
        done, _ = await asyncio.wait(answers, timeout=0.3)
        assert not done
        goes_on.set()
        assert (await answers[0]).endswith("done")
        goes_on.clear()
        hopeless = await connect()
        await hopeless.say("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        assert await hopeless.is_closed()


async def test_no_path_is_redirected() -> None:
    async with serving() as (connect, _):
        answer = await (await connect()).get("/who/")
    assert answer.split()[1] == "404"
    assert "location" not in answer.lower()


@pytest.mark.parametrize(
    ("trusted", "forwarded", "client"),
    [
        ("", "203.0.113.9", "127.0.0.1"),
        ("10.0.0.0/8", "203.0.113.9", "127.0.0.1"),
        ("127.0.0.0/8", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1, 10.0.0.0/8", "198.51.100.1, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
    ],
)
async def test_a_forwarded_address_counts_only_from_a_trusted_proxy(trusted: str, forwarded: str, client: str) -> None:
    async with serving(trusted_proxies=trusted) as (connect, _):
        answer = await (await connect()).get("/who", f"X-Forwarded-For: {forwarded}")
    assert answer.rpartition("\r\n")[2] == client
