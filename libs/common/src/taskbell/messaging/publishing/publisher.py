"""Publishing: persistent, confirmed, within a time limit.

A connection of its own, apart from the one that consumes: RabbitMQ blocks connections that publish while it is short of
memory or disk, and consuming must go on then. Plain connections, opened when they are needed: what failed is told to
the caller, who still holds the message (outbox row, unacknowledged delivery), so nothing is replayed behind their back.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aiormq
from aiormq.abc import AbstractConnection
from aiormq.channel import Channel
from pamqp import frame
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader

from taskbell.errors import BrokerUnavailable, PublishTimeout, TopologyMissing, Unroutable
from taskbell.messaging.publishing.confirms import Unanswered, confirmed
from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS, connection_errors_named, in_words
from taskbell.messaging.wire.frames import Wire

PUBLISH_TIMEOUT = 5.0
"""Seconds within which RabbitMQ must confirm."""

WINDOW = 256
"""Messages on the wire without a confirm: enough to keep the broker busy, few enough for the time limit."""

HEARTBEAT = 8
"""Seconds. aiormq takes a peer for gone after 3 x (8 + 1) s of silence, and looks every 4 s: at most 31 s."""

CONNECT_TIMEOUT = 5.0
CLOSE_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message as it goes to the broker."""

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    type: str | None = None
    timestamp: datetime | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    content_type: str | None = "application/json"
    headers: Mapping[str, Any] = field(default_factory=dict)
    mandatory: bool = False
    persistent: bool = True


def connection_url(url: str, name: str) -> str:
    """The broker's URL with a name for the management UI, and with our heartbeat unless it names one itself."""
    parts = urlsplit(url)
    query = {"heartbeat": str(HEARTBEAT)} | dict(parse_qsl(parts.query)) | {"name": name}
    return urlunsplit(parts._replace(query=urlencode(query)))


class Publisher:
    """Publishes over one connection and channel, which it opens again when they are lost.

    While RabbitMQ takes no messages (an alarm), the connection stays and publishes wait for the alarm's end, each as
    long as its limit; a connection that is silent otherwise is dropped.

    Args:
        url: AMQP URL of the broker.
        name: the connection's name in RabbitMQ's management UI.
        timeout: seconds for each publish as a whole, connecting included.
        prepare: called with each new channel, before anything is published on it.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        timeout: float = PUBLISH_TIMEOUT,
        prepare: Callable[[Channel], Awaitable[None]] | None = None,
    ) -> None:
        self._url = connection_url(url, name)
        self._timeout = timeout
        self._prepare = prepare
        self._wire = Wire()
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._under_way: dict[str, asyncio.Event] = {}
        self._confirms = 0

    async def publish(self, message: Outgoing) -> None:
        """Publishes one message and waits for the broker's confirm.

        Raises:
            Unroutable: it was mandatory and no queue is bound for its key.
            PublishTimeout: no confirm in time; the message may still arrive.
            TopologyMissing: the exchange does not exist, or this user may not write to it.
            BrokerUnavailable: the broker does not answer, takes no messages, or the connection broke.
            ValueError: it cannot be encoded, such as an id of more than 255 bytes.
        """
        await self.send(message)

    async def send(self, message: Outgoing, *, timeout: float | None = None) -> Channel:
        """Publishes like `publish`, within a time limit of its own where one is given.

        Returns:
            The channel that it went out on: a direct reply to it comes in on the same one.
        """
        limit = self._timeout if timeout is None else timeout
        channel, (error,) = await self._publish_window([message], limit)
        if error is not None:
            raise error
        assert channel is not None  # it was confirmed on one
        return channel

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        """Publishes many, WINDOW at a time; for each None, or the error that `publish` would have raised."""
        errors: list[Exception | None] = []
        for window in _windows(messages):
            _, answers = await self._publish_window(window, self._timeout)
            errors += answers
        return errors

    async def _publish_window(
        self, window: Sequence[Outgoing], limit: float
    ) -> tuple[Channel | None, list[Exception | None]]:
        """Publishes messages of different ids side by side, with one time limit for all.

        Returns:
            The channel, if it came to that; for each message None, or the error for whoever published it.
        """
        deadline = asyncio.get_running_loop().time() + limit
        late: BrokerUnavailable = PublishTimeout(_unconfirmed(limit))
        try:
            with connection_errors_named():
                async with asyncio.timeout_at(deadline) as timer, self._alone([it.message_id for it in window]):
                    late = BrokerUnavailable(f"RabbitMQ did not answer within {limit:g} s")
                    channel = await self._open()
                    late = BrokerUnavailable(
                        f"RabbitMQ takes no messages for {limit:g} s now: it is short of memory or disk"
                    )
                    await self._unblocked()
                    timer.reschedule(None)  # from here on each is late by itself
                    return channel, await self._confirmed(channel, window, deadline, limit)
        except TimeoutError:
            return None, [late] * len(window)
        except CONNECTION_ERRORS as error:
            return None, [_lost(error)] * len(window)

    async def _confirmed(
        self, channel: Channel, window: Sequence[Outgoing], deadline: float, limit: float
    ) -> list[Exception | None]:
        frames: dict[str, bytes] = {}
        errors: dict[str, Exception | None] = {}
        for message in window:
            try:
                frames[message.message_id] = _encoded(channel, message)
            except ValueError as error:
                errors[message.message_id] = error
        confirms = self._confirms
        answers = await confirmed(channel, frames, deadline) if frames else {}
        self._confirms += sum(it is None for it in answers.values())
        for message in window:
            if message.message_id in answers:
                errors[message.message_id] = self._told(channel, message, answers[message.message_id], limit)
        late = any(isinstance(it, Unanswered) for it in answers.values())
        # What waits in the client's buffer must not pile up behind a silent broker, nor arrive hours later. Where it
        # says that it is blocked, or others were confirmed meanwhile, it is not: they keep their connection.
        if late and self._confirms == confirms and not await self._is_blocked():
            self._discard(channel)
        return [errors[message.message_id] for message in window]

    def _told(self, channel: Channel, message: Outgoing, error: BaseException | None, limit: float) -> Exception | None:
        """What became of a message, in our words."""
        if error is None:
            return None
        if isinstance(error, Unanswered):
            return PublishTimeout(_unconfirmed(limit))
        if isinstance(error, aiormq.exceptions.PublishError):
            return Unroutable(f"no queue is bound for {message.routing_key!r} at exchange {message.exchange!r}")
        if isinstance(error, aiormq.exceptions.DeliveryError):
            return BrokerUnavailable(f"RabbitMQ refused the message: {type(error.frame).__name__}")
        if isinstance(error, (aiormq.exceptions.ChannelNotFoundEntity, aiormq.exceptions.ChannelAccessRefused)):
            return self._of_closed_channel(channel, message, error)
        self._discard(channel)
        # aiormq rejects with a bare Exception, or a CancelledError, where it knows no reason.
        return _lost(error if isinstance(error, CONNECTION_ERRORS) else ConnectionError("the connection was lost"))

    @asynccontextmanager
    async def _alone(self, message_ids: Sequence[str]) -> AsyncIterator[None]:
        """Waits for others' publishes of the same message_ids: aiormq knows a returned message by it alone.

        Side by side, one of the two would be taken for confirmed when both were returned.
        """
        while others := [other for it in message_ids if (other := self._under_way.get(it)) is not None]:
            await others[0].wait()
        done = asyncio.Event()
        self._under_way |= dict.fromkeys(message_ids, done)
        try:
            yield
        finally:
            for message_id in message_ids:
                del self._under_way[message_id]
            done.set()

    async def connect(self) -> None:
        """Sees to it that the connection is open, and that the broker takes messages.

        Raises:
            BrokerUnavailable: the broker does not answer, refuses us, or takes no messages now.
        """
        why = "did not answer"
        try:
            with connection_errors_named():
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await self._open()
                    why = "takes no messages now: it is short of memory or disk"
                    await self._unblocked()
        except TimeoutError:
            raise BrokerUnavailable(f"RabbitMQ {why}") from None
        except CONNECTION_ERRORS as error:
            raise _lost(error) from error

    async def close(self) -> None:
        """Closes the connection; a later publish would open it again."""
        connection, wire = self._connection, self._wire
        self._connection = self._channel = None
        if connection is not None and not connection.is_closed:
            with suppress(*CONNECTION_ERRORS), connection_errors_named():
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await connection.close(aiormq.exceptions.ConnectionClosed(320, "closed by us"))
        wire.abort()

    async def _open(self) -> Channel:
        channel = self._channel
        if channel is not None and not channel.is_closed:
            return channel
        async with self._opening:
            if self._channel is not None and not self._channel.is_closed:
                return self._channel
            if self._connection is None or self._connection.is_closed:
                wire = Wire()
                self._connection = await aiormq.connect(self._url, transport_factory=wire)
                self._wire = wire
            try:
                opened = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                channel = cast(Channel, opened)  # its only implementation
                if self._prepare is not None:
                    await self._prepare(channel)
            except BaseException:
                # Cut off here, it would go on waiting for an answer, and the next one would wait behind it.
                self._wire.abort()
                self._connection = None
                raise
            self._channel = channel
            return channel

    async def _unblocked(self) -> None:
        """Waits while RabbitMQ says that it takes no messages."""
        if self._connection is not None:
            await self._connection.ready()

    async def _is_blocked(self) -> bool:
        try:
            async with asyncio.timeout(0):
                await self._unblocked()
        except TimeoutError:
            return True
        return False

    def _discard(self, channel: Channel | None) -> None:
        """Drops the connection on which that channel was, unless it was replaced already."""
        if channel is not None and self._channel is channel:
            self._connection = self._channel = None
            self._wire.abort()

    def _of_closed_channel(self, channel: Channel | None, message: Outgoing, error: Exception) -> BrokerUnavailable:
        """The error for a message whose channel RabbitMQ closed: because of it, or of another one on the same.

        The connection goes with it. aiormq may have written more on that channel behind its answer to the close, and
        RabbitMQ closes a connection on which a closed channel is used: the next channel would not live long on it.
        """
        self._discard(channel)
        if f"'{message.exchange or 'amq.default'}'" not in str(error):
            return BrokerUnavailable(f"RabbitMQ closed the channel because of another message: {error}")
        if isinstance(error, aiormq.exceptions.ChannelNotFoundEntity):
            return TopologyMissing(f"exchange {message.exchange!r} is missing: run `taskbell setup`")
        return TopologyMissing(f"RabbitMQ: {error}: run `taskbell setup` for its rights, or publish as a user who may")


def _windows(messages: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """The messages in their order; none has an id twice."""
    window: dict[str, Outgoing] = {}
    for message in messages:
        if len(window) == WINDOW or message.message_id in window:
            yield list(window.values())
            window = {}
        window[message.message_id] = message
    if window:
        yield list(window.values())


def _unconfirmed(limit: float) -> str:
    return f"RabbitMQ did not confirm within {limit:g} s"


def _lost(error: BaseException) -> BrokerUnavailable:
    return BrokerUnavailable(f"RabbitMQ: {in_words(error)}")


def _encoded(channel: Channel, message: Outgoing) -> bytes:
    """Its frames. Raises ValueError where AMQP cannot carry it, or where nothing would match a returned one to it."""
    if not message.message_id:
        raise ValueError("a message without a message_id: give it one")
    size = channel.max_content_size
    try:
        parts: list[Frame | ContentHeader | ContentBody] = [
            Basic.Publish(exchange=message.exchange, routing_key=message.routing_key, mandatory=message.mandatory),
            ContentHeader(body_size=len(message.body), properties=_properties(message)),
            *(ContentBody(message.body[at : at + size]) for at in range(0, len(message.body), size)),
        ]
        return b"".join(frame.marshal(part, channel.number) for part in parts)
    except (TypeError, OverflowError, struct.error, RecursionError, PAMQPException) as error:
        msg = f"a message that AMQP cannot carry: {error}"
        raise ValueError(msg) from error


def _properties(message: Outgoing) -> Basic.Properties:
    return Basic.Properties(
        content_type=message.content_type,
        delivery_mode=2 if message.persistent else 1,
        message_id=message.message_id,
        message_type=message.type,
        timestamp=message.timestamp,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        headers=dict(message.headers) or None,
    )
