"""Publishing: persistent, confirmed, within a time limit.

It has a connection of its own, apart from the one that consumes: while RabbitMQ is short of memory or disk, it blocks
connections that publish, and consuming must go on. Connections are opened when they are needed. The caller, who still
holds the message (outbox row, unacknowledged delivery), learns what failed, so nothing is published again unasked.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import aiormq
from aiormq.channel import Channel

from taskbell.errors import BrokerUnavailable, PublishTimeout, TopologyMissing, Unroutable
from taskbell.messaging.publishing.confirms import confirmed
from taskbell.messaging.publishing.outgoing import Outgoing, encoded
from taskbell.messaging.wire.connection import CONNECT_TIMEOUT, Connection
from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS, connection_errors_named, in_words

PUBLISH_TIMEOUT = 5.0
"""Seconds within which RabbitMQ must confirm."""

WINDOW = 256
"""Messages on the wire without a confirm: enough to keep the broker busy, few enough for the time limit."""


class Publisher:
    """Publishes over one connection and channel, which it opens again when they are lost.

    While RabbitMQ takes no messages (an alarm), the connection stays and publishes wait for the alarm's end, each as
    long as its limit. A connection that is silent otherwise is dropped.

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
        self._url = url
        self._name = name
        self._timeout = timeout
        self._prepare = prepare
        self._connection: Connection | None = None
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
        """Publishes like `publish`, within a time limit of its own if one is given.

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

    async def connect(self) -> None:
        """Opens the connection if need be, and checks that the broker takes messages.

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
        """Closes the connection; a later publish opens it again."""
        connection = self._connection
        self._connection = self._channel = None
        if connection is not None:
            await connection.close()

    async def _publish_window(
        self, window: Sequence[Outgoing], limit: float
    ) -> tuple[Channel | None, list[Exception | None]]:
        """Publishes messages of different ids side by side, with one time limit for all.

        Returns:
            The channel, if one was opened; for each message None, or the error for whoever published it.
        """
        deadline = asyncio.get_running_loop().time() + limit
        late: BrokerUnavailable = _unconfirmed(limit)
        try:
            with connection_errors_named():
                async with asyncio.timeout_at(deadline) as timer, self._alone([it.message_id for it in window]):
                    late = BrokerUnavailable(f"RabbitMQ did not answer within {limit:g} s")
                    channel = await self._open()
                    late = BrokerUnavailable(
                        f"RabbitMQ takes no messages for {limit:g} s now: it is short of memory or disk"
                    )
                    await self._unblocked()
                    # From here on each message has its own answer to being late.
                    timer.reschedule(None)
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
                frames[message.message_id] = encoded(channel, message)
            except ValueError as error:
                errors[message.message_id] = error
        confirms = self._confirms
        answers = await confirmed(channel, frames, deadline) if frames else {}
        self._confirms += sum(it is None for it in answers.values())
        for message in window:
            if message.message_id in answers:
                errors[message.message_id] = self._error(channel, message, answers[message.message_id], limit)
        late = any(isinstance(it, PublishTimeout) for it in answers.values())
        # What waits in the client's buffer must not pile up behind a silent broker, nor arrive hours later. A broker
        # that says that it is blocked, or that confirmed others meanwhile, is not silent: the connection stays.
        if late and self._confirms == confirms and not await self._is_blocked():
            self._discard(channel)
        return [errors[message.message_id] for message in window]

    def _error(
        self, channel: Channel, message: Outgoing, error: BaseException | None, limit: float
    ) -> Exception | None:
        """The error for whoever published that message, or None if it was confirmed."""
        if error is None:
            return None
        if isinstance(error, PublishTimeout):
            return _unconfirmed(limit)
        if isinstance(error, aiormq.exceptions.PublishError):
            return Unroutable(f"no queue is bound for {message.routing_key!r} at exchange {message.exchange!r}")
        if isinstance(error, aiormq.exceptions.DeliveryError):
            return BrokerUnavailable(f"RabbitMQ refused the message: {type(error.frame).__name__}")
        if isinstance(error, (aiormq.exceptions.ChannelNotFoundEntity, aiormq.exceptions.ChannelAccessRefused)):
            return self._of_closed_channel(channel, message, error)
        self._discard(channel)
        # If aiormq knows no reason, it rejects with a bare Exception or a CancelledError.
        return _lost(error if isinstance(error, CONNECTION_ERRORS) else ConnectionError("the connection was lost"))

    def _of_closed_channel(self, channel: Channel, message: Outgoing, error: Exception) -> BrokerUnavailable:
        """The error for a message whose channel RabbitMQ closed because of it, or of another one on the same channel.

        The connection goes, too. aiormq may have written more on that channel after its answer to the close, and
        RabbitMQ closes a connection on which a closed channel is used, so that a new channel would soon be lost.
        """
        self._discard(channel)
        if f"'{message.exchange or 'amq.default'}'" not in str(error):
            return BrokerUnavailable(f"RabbitMQ closed the channel because of another message: {error}")
        if isinstance(error, aiormq.exceptions.ChannelNotFoundEntity):
            return TopologyMissing(f"exchange {message.exchange!r} is missing: run `taskbell setup`")
        return TopologyMissing(f"RabbitMQ: {error}: run `taskbell setup` for its rights, or publish as a user who may")

    @asynccontextmanager
    async def _alone(self, message_ids: Sequence[str]) -> AsyncIterator[None]:
        """Waits until no other publish of the same message_ids is under way: aiormq tells returned messages by it.

        Side by side, if both were returned, one of the two would count as confirmed.
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

    async def _open(self) -> Channel:
        channel = self._channel
        if channel is not None and not channel.is_closed:
            return channel
        async with self._opening:
            if self._channel is not None and not self._channel.is_closed:
                return self._channel
            connection = self._connection
            if connection is None or connection.is_closed:
                connection = self._connection = await Connection.open(self._url, self._name)
            try:
                channel = await connection.confirming_channel()
                if self._prepare is not None:
                    await self._prepare(channel)
            except BaseException:
                # Cut off here, it would go on waiting for an answer, and the next one would wait behind it.
                connection.abort()
                self._connection = None
                raise
            self._channel = channel
            return channel

    async def _unblocked(self) -> None:
        if self._connection is not None:
            await self._connection.unblocked()

    async def _is_blocked(self) -> bool:
        return self._connection is not None and await self._connection.is_blocked()

    def _discard(self, channel: Channel) -> None:
        """Drops the connection of that channel, unless it was replaced already."""
        if self._channel is channel:
            connection = self._connection
            self._connection = self._channel = None
            if connection is not None:
                connection.abort()


def _windows(messages: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """The messages in their order, in windows in which each message_id is there once."""
    window: dict[str, Outgoing] = {}
    for message in messages:
        if len(window) == WINDOW or message.message_id in window:
            yield list(window.values())
            window = {}
        window[message.message_id] = message
    if window:
        yield list(window.values())


def _unconfirmed(limit: float) -> PublishTimeout:
    return PublishTimeout(f"RabbitMQ did not confirm within {limit:g} s")


def _lost(error: BaseException) -> BrokerUnavailable:
    return BrokerUnavailable(f"RabbitMQ: {in_words(error)}")
