"""Commands whose outcome somebody waits for, over RabbitMQ's direct reply-to.

Replies come in on the channel that the command went out on, so questions have a connection of their own, opened with
the first one. Any number may be under way on it; a reply finds its question by correlation_id and message_id.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from taskbell.client.outcome import Outcome
from taskbell.client.sending import send
from taskbell.contracts import CommandOutcome
from taskbell.errors import InvalidMessage, OutcomeLost, OutcomeTimeout, OutcomeUnknown
from taskbell.messaging.publishing.publisher import Outgoing, Publisher

REPLY_TO = "amq.rabbitmq.reply-to"
"""RabbitMQ's pseudo-queue: nothing is declared, and nothing is left behind."""

Key = tuple[str | None, str | None]


@dataclass(slots=True, eq=False)
class _Question:
    """A command under way."""

    answer: "asyncio.Future[Outcome]"
    channel: Channel | None = None
    """The one that it went out on, once it is confirmed."""


class Questions:
    """Publishes commands and waits for their outcomes."""

    def __init__(self, url: str, *, name: str) -> None:
        self._publisher = Publisher(url, name=name, prepare=self._listen)
        self._open: dict[Key, list[_Question]] = {}

    async def ask(self, command: Outgoing, limit: float) -> Outcome:
        """Publishes a command and returns its outcome.

        Two questions under way with the same ids are the same command, and get the same answer.

        Raises:
            OutcomeTimeout, OutcomeLost: it was published, but its outcome did not reach us.
            BrokerUnavailable, PublishTimeout, TopologyMissing, Unroutable: it was not, or perhaps not, published.
        """
        deadline = asyncio.get_running_loop().time() + limit
        with self._question(command) as question:
            channel = question.channel = await send(self._publisher, command, limit)
            if channel.is_closed and not question.answer.done():
                raise _unknown(OutcomeLost("the connection to RabbitMQ was lost"), command)
            try:
                async with asyncio.timeout_at(deadline):
                    return await question.answer
            except TimeoutError:
                raise _unknown(OutcomeTimeout(f"no outcome within {limit:g} s"), command) from None
            except OutcomeLost as error:
                raise _unknown(error, command) from None

    async def close(self) -> None:
        """Closes the connection; what is under way ends with OutcomeLost."""
        await self._publisher.close()

    @contextmanager
    def _question(self, command: Outgoing) -> Iterator[_Question]:
        key = (command.correlation_id, command.message_id)
        question = _Question(asyncio.get_running_loop().create_future())
        same = self._open.setdefault(key, [])
        same.append(question)
        try:
            yield question
        finally:
            same.remove(question)
            if not same:
                del self._open[key]
            question.answer.cancel()

    async def _listen(self, channel: Channel) -> None:
        await channel.basic_consume(REPLY_TO, self._on_reply, no_ack=True)
        channel.closing.add_done_callback(lambda _: self._on_lost(channel))

    async def _on_reply(self, message: DeliveredMessage) -> None:
        try:
            reply = CommandOutcome.parse(message.body)
        except InvalidMessage:
            return  # whoever learnt our address may write to it; only the service's answer ends the wait
        key = (message.header.properties.correlation_id, reply.message_id)
        for question in self._open.get(key, []):
            if not question.answer.done():
                question.answer.set_result(Outcome.of(reply))

    def _on_lost(self, channel: Channel) -> None:
        for questions in self._open.values():
            for question in questions:
                if question.channel is channel and not question.answer.done():
                    question.answer.set_exception(OutcomeLost("the connection to RabbitMQ was lost"))


def _unknown(error: OutcomeUnknown, command: Outgoing) -> OutcomeUnknown:
    """That error with the command's name, and what to do."""
    told = type(error)(
        f"{command.routing_key}: {error}; it was published and may still take effect. "
        f"See `taskbell commands show {command.message_id}`, or ask again with this message_id: it takes effect once."
    )
    told.message_id = command.message_id
    return told
