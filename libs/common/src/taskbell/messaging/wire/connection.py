"""The one place that connects to RabbitMQ.

A connection is plain: nothing of it is restored once it is lost, and whoever needs it opens another. It is aiormq's;
call it and its channels within `connection_errors_named`, and what they raise is one of CONNECTION_ERRORS.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Self, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.channel import Channel

from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS, connection_errors_named
from taskbell.messaging.wire.transport import Transport

HEARTBEAT = 8
"""Seconds. aiormq takes a peer for gone after 3 x (8 + 1) s of silence, and looks every 4 s: at most 31 s."""

CONNECT_TIMEOUT = 5.0
"""Seconds until a broker that does not answer counts as unavailable."""

CLOSE_TIMEOUT = 2.0
"""Seconds that the broker has to answer a goodbye."""


class Connection:
    """An open connection to RabbitMQ."""

    def __init__(self, underlying: AbstractConnection, transport: Transport) -> None:
        self._underlying = underlying
        self._transport = transport

    @classmethod
    async def open(cls, url: str, name: str) -> Self:
        """Connects. It takes as long as the broker lets it, so give it a time limit.

        Args:
            url: AMQP URL of the broker.
            name: what RabbitMQ's management UI calls the connection.
        """
        transport = Transport()
        try:
            underlying = await aiormq.connect(connection_url(url, name), transport_factory=transport)
        except BaseException:
            transport.abort()
            raise
        return cls(underlying, transport)

    async def channel(self, *, prefetch: int = 0) -> AbstractChannel:
        """Opens a channel without publisher confirms.

        Args:
            prefetch: at most so many messages are delivered unacknowledged; 0 means any number.
        """
        channel = await self._underlying.channel(publisher_confirms=False)
        if prefetch:
            await channel.basic_qos(prefetch_count=prefetch)
        return channel

    async def confirming_channel(self) -> Channel:
        """Opens a channel on which RabbitMQ confirms each publish; a message that it returns is a PublishError."""
        channel = await self._underlying.channel(publisher_confirms=True, on_return_raises=True)
        return cast(Channel, channel)  # aiormq has no other implementation

    @property
    def is_closed(self) -> bool:
        """Whether it was closed or lost."""
        return self._underlying.is_closed

    def when_closed(self, call: Callable[[], None]) -> None:
        """Calls that once, when the connection was closed or lost."""
        self._underlying.closing.add_done_callback(lambda _: call())

    async def unblocked(self) -> None:
        """Waits while RabbitMQ takes no messages because it is short of memory or disk."""
        await self._underlying.ready()

    async def is_blocked(self) -> bool:
        """Whether RabbitMQ takes no messages now."""
        try:
            async with asyncio.timeout(0):
                await self.unblocked()
        except TimeoutError:
            return True
        return False

    async def close(self, *, timeout: float = CLOSE_TIMEOUT) -> None:
        """Says goodbye and closes, after the time limit without an answer. That it was lost is not an error."""
        try:
            if not self._underlying.is_closed:
                with suppress(*CONNECTION_ERRORS), connection_errors_named():
                    async with asyncio.timeout(timeout):
                        await self._underlying.close(aiormq.exceptions.ConnectionClosed(320, "closed by us"))
        finally:
            self.abort()

    def abort(self) -> None:
        """Drops the connection at once, with all that still waits to be sent; aiormq then takes it for lost."""
        self._transport.abort()


@asynccontextmanager
async def connected(url: str, name: str) -> AsyncIterator[Connection]:
    """A connection for as long as a block needs it; it must open within CONNECT_TIMEOUT."""
    async with asyncio.timeout(CONNECT_TIMEOUT):
        connection = await Connection.open(url, name)
    try:
        yield connection
    finally:
        await connection.close()


def connection_url(url: str, name: str) -> str:
    """The URL with the connection's name, and with our heartbeat unless it has one itself."""
    parts = urlsplit(url)
    query = {"heartbeat": str(HEARTBEAT)} | dict(parse_qsl(parts.query)) | {"name": name}
    return urlunsplit(parts._replace(query=urlencode(query)))
