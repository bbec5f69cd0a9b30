"""The connection below AMQP: how it is opened, written to and dropped."""

import asyncio
from typing import Any, cast

from aiormq import SSLContextProvider, TransportFactory
from yarl import URL

from taskbell.messaging.wire.frames import FrameReader


class Transport(TransportFactory):
    """Opens the transport of one connection, over TLS for amqps://, and can drop it."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects; called by aiormq."""
        provider: SSLContextProvider = kwargs.pop("ssl_context_provider")
        context = await provider.get_context() if url.scheme == "amqps" else None
        reader, writer = await asyncio.open_connection(url.host, url.port, ssl=context, **kwargs)
        self._transport = writer.transport
        return cast(asyncio.StreamReader, FrameReader(reader)), cast(asyncio.StreamWriter, JoiningWriter(writer))

    def abort(self) -> None:
        """Drops the connection at once, with all that still waits to be sent."""
        if self._transport is not None:
            self._transport.abort()


class JoiningWriter:
    """What aiormq needs of a StreamWriter; all that it writes in one turn of the loop goes out by one system call."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._waiting: list[bytes] = []
        self.transport = writer.transport
        self.is_closing = writer.is_closing
        self.can_write_eof = writer.can_write_eof
        self.wait_closed = writer.wait_closed

    def write(self, data: bytes) -> None:
        """Sends the data at the end of this turn of the loop."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    async def drain(self) -> None:
        """Sends what waits, and waits until there is room in the buffer."""
        self._flush()
        await self._writer.drain()

    def write_eof(self) -> None:
        """Sends what waits, and says that nothing follows."""
        self._flush()
        self._writer.write_eof()

    def close(self) -> None:
        """Sends what waits, and closes."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            self._writer.write(data)
