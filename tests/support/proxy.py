"""A TCP proxy in front of a server, through which a test breaks connections as networks do."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Passes bytes on to a server, until told otherwise.

    Args:
        port: where it listens; 0: at any free one.
    """

    def __init__(self, url: str, port: int = 0) -> None:
        self._target = urlsplit(url)
        self._port = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._cut_next = False
        self.accepted = 0
        """Connections that came, so far."""
        self.held = asyncio.Event()
        """Something that a client said was held back."""

    @property
    def url(self) -> str:
        """The server's URL, through the proxy."""
        login = self._target.netloc.rpartition("@")[0]
        return self._target._replace(netloc=f"{login}@127.0.0.1:{self._port}").geturl()

    def hold(self) -> None:
        """From now on what clients say goes nowhere, and stays unanswered."""
        self._passing.clear()

    def release(self) -> None:
        """What was held goes on, and all that follows."""
        self._passing.set()

    def cut(self) -> None:
        """Breaks all connections."""
        for writer in list(self._open):
            writer.transport.abort()

    def cut_at_next_word(self) -> None:
        """Breaks the connection on which a client speaks next, unheard."""
        self._cut_next = True

    async def __aenter__(self) -> Self:
        return await self.listen()

    async def listen(self, context: ssl.SSLContext | None = None) -> Self:
        """Takes connections from now on, over TLS if there is a context for it."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=context)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.release()
        self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        assert self._target.hostname is not None
        port = self._target.port or 5672
        server_reader, server_writer = await asyncio.open_connection(self._target.hostname, port)
        self._open |= {writer, server_writer}
        try:
            await asyncio.gather(
                self._pass(reader, server_writer, from_client=True),
                self._pass(server_reader, writer, from_client=False),
            )
        except OSError:
            pass  # one side is gone: so is the other
        finally:
            for side in (writer, server_writer):
                side.transport.abort()
                self._open.discard(side)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool) -> None:
        while data := await reader.read(65536):
            if from_client and self._cut_next:
                self._cut_next = False
                raise ConnectionResetError
            if from_client and not self._passing.is_set():
                self.held.set()
                await self._passing.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@contextlib.asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """A server that accepts connections and never says a word; yields its AMQP URL."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"amqp://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
