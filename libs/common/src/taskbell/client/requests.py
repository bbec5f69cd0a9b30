"""Requests: commands whose outcome somebody waits for, over RabbitMQ's direct reply-to.

A reply arrives on the channel on which its command was sent, so requests have their own connection, opened by the first
one. Any number may be under way on it; a reply is matched to its request by correlation_id and message_id.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from taskbell.client.sending import send
from taskbell.contracts import CommandOutcome
from taskbell.errors import InvalidMessage, OutcomeLost, OutcomeTimeout, OutcomeUnknown
from taskbell.identity import ANOTHER
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher

REPLY_TO = "amq.rabbitmq.reply-to"
"""RabbitMQ's pseudo-queue for direct reply-to: nothing is declared, and nothing is left behind."""

Key = tuple[str | None, str | None]


@dataclass(slots=True, eq=False)
class _Request:
    """A request under way."""

    outcome: "asyncio.Future[CommandOutcome]"
    digest: str
    """Tells whether another request under way with the same ids is the same command (`taskbell.identity`)."""
    channel: Channel | None = None
    """The channel on which the command was sent, once that is confirmed."""


class Requests:
    """Publishes commands and waits for their outcomes."""

    def __init__(self, url: str, *, name: str) -> None:
        self._publisher = Publisher(url, name=name, prepare=self._listen)
        self._open: dict[Key, list[_Request]] = {}

    async def send(self, command: Outgoing, digest: str, limit: float) -> CommandOutcome:
        """Publishes a command and returns its outcome.

        Two requests under way with the same ids and digest are the same command, and get the same outcome.

        Raises:
            OutcomeTimeout, OutcomeLost: the command was published, but its outcome did not reach us.
            PublishTimeout: the command may have been published, or not.
            BrokerUnavailable, TopologyMissing, Unroutable: the command was not published, or not confirmed.
        """
        deadline = asyncio.get_running_loop().time() + limit
        with self._request(command, digest) as request:
            channel = request.channel = await send(self._publisher, command, limit)
            if channel.is_closed and not request.outcome.done():
                raise _unknown(OutcomeLost("the connection to RabbitMQ was lost"), command)
            try:
                async with asyncio.timeout_at(deadline):
                    return await request.outcome
            except TimeoutError:
                raise _unknown(OutcomeTimeout(f"no outcome within {limit:g} s"), command) from None
            except OutcomeLost as error:
                raise _unknown(error, command) from None

    async def close(self) -> None:
        """Closes the connection; requests under way end with OutcomeLost."""
        await self._publisher.close()

    @contextmanager
    def _request(self, command: Outgoing, digest: str) -> Iterator[_Request]:
        key = (command.correlation_id, command.message_id)
        request = _Request(asyncio.get_running_loop().create_future(), digest)
        same = self._open.setdefault(key, [])
        same.append(request)
        try:
            yield request
        finally:
            same.remove(request)
            if not same:
                del self._open[key]
            request.outcome.cancel()

    async def _listen(self, channel: Channel) -> None:
        await channel.basic_consume(REPLY_TO, self._on_reply, no_ack=True)
        channel.closing.add_done_callback(lambda _: self._on_lost(channel))

    async def _on_reply(self, message: DeliveredMessage) -> None:
        try:
            reply = CommandOutcome.parse(message.body)
        except InvalidMessage:
            return  # anybody who knows our reply address may write to it; only a valid outcome ends the wait
        key = (message.header.properties.correlation_id, reply.message_id)
        waiting = [it for it in self._open.get(key, []) if not it.outcome.done()]
        # If several commands are under way with the same ids, the one that was sent first has them.
        answered = waiting[-1 if reply.reason == ANOTHER else 0].digest if waiting else None
        for request in waiting:
            if request.digest == answered:
                request.outcome.set_result(reply)

    def _on_lost(self, channel: Channel) -> None:
        for requests in self._open.values():
            for request in requests:
                if request.channel is channel and not request.outcome.done():
                    request.outcome.set_exception(OutcomeLost("the connection to RabbitMQ was lost"))


def _unknown(error: OutcomeUnknown, command: Outgoing) -> OutcomeUnknown:
    """The same error with the command's routing key, its message_id, and what to do."""
    complete = type(error)(
        f"{command.routing_key}: {error}; it was published and may still take effect. "
        f"See `taskbell commands show {command.message_id}`, or ask again with this message_id: it takes effect once."
    )
    complete.message_id = command.message_id
    return complete
