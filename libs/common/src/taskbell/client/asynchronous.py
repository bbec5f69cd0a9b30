"""The client for asyncio."""

import asyncio
import logging
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from uuid import uuid4

from taskbell.client.messages import check_has_outcome, outgoing
from taskbell.client.outcome import Outcome
from taskbell.client.questions import REPLY_TO, Questions
from taskbell.client.sending import send
from taskbell.contracts import Contract
from taskbell.messaging.publishing.publisher import Publisher

TIMEOUT = 5.0
"""Seconds that any call may take, connecting included."""

NAME = "taskbell client"

# Where an app has no logging set up, what is raised is not also written to its standard error.
logging.getLogger("aiormq").addHandler(logging.NullHandler())


class AsyncClient:
    """Publishes events and commands from asyncio code. Belongs to the event loop that it was first used in.

    Connects when it is first needed, and again when the connection was lost. Publishes have one connection; commands
    whose outcome is waited for have another, opened with the first of them. Any number of tasks may use it at once.

    Args:
        broker_url: `amqp://user:password@host:5672/vhost`, or amqps://.
        timeout: seconds that each call may take, unless it says otherwise.
        name: of the connections, in RabbitMQ's management UI.

    Raises:
        ValueError: the URL is no AMQP URL.
    """

    def __init__(self, broker_url: str, *, timeout: float = TIMEOUT, name: str = NAME) -> None:
        check_url(broker_url)
        self.timeout = timeout
        self._publisher = Publisher(broker_url, name=name)
        self._questions = Questions(broker_url, name=f"{name} requests")
        self._loop: asyncio.AbstractEventLoop | None = None

    async def publish(
        self,
        body: Contract,
        *,
        message_id: str | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Publishes an event or a command, and returns its message_id once RabbitMQ has confirmed it.

        It is safe to publish again with the same message_id, after any error: it takes effect once.

        Args:
            message_id: what it is to be known by; a new UUID where none is given.
            correlation_id: goes along, and into the record of a command.
            traceparent: W3C trace context that goes along as a header.
            timeout: seconds for the whole call.

        Raises:
            PublishTimeout: no confirm in time; the message may still arrive.
            Unroutable: no queue is bound for it: `taskbell setup` was not run, or a queue was deleted.
            TopologyMissing: the exchange is missing, or this user may not write to it: `taskbell setup` was not run.
            BrokerUnavailable: RabbitMQ does not answer, refuses us, takes no messages now, or the connection broke.
                Each of these four has the message_id.
            TypeError, ValueError: the body is no message of Taskbell's, or an id is none that RabbitMQ could carry.
        """
        self._check_loop()
        message = outgoing(body, message_id=message_id, correlation_id=correlation_id, traceparent=traceparent)
        await send(self._publisher, message, self.timeout if timeout is None else timeout)
        return message.message_id

    async def request(
        self,
        command: Contract,
        *,
        timeout: float | None = None,
        message_id: str | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Outcome:
        """Publishes a command and returns how it ended, be it that it was rejected or failed.

        Asking again with the same message_id is safe: the command takes effect once, and the stored outcome is told.

        Args:
            timeout: seconds for the whole call.
            message_id, correlation_id, traceparent: as for `publish`.

        Raises:
            OutcomeTimeout: the command was published, but its outcome did not come in time.
            OutcomeLost: the command was published, but the connection was lost before its outcome came. After both
                it may still take effect: `taskbell commands show` with the error's message_id tells.
            PublishTimeout, Unroutable, TopologyMissing, BrokerUnavailable, ValueError: as for `publish`.
            TypeError: it is no command whose outcome could be waited for.
        """
        self._check_loop()
        check_has_outcome(command)
        message = outgoing(
            command,
            message_id=message_id,
            correlation_id=correlation_id or str(uuid4()),
            traceparent=traceparent,
            reply_to=REPLY_TO,
        )
        return await self._questions.ask(message, self.timeout if timeout is None else timeout)

    async def close(self) -> None:
        """Closes the connections; calls under way fail. A later call opens them again."""
        await asyncio.gather(self._publisher.close(), self._questions.close())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            msg = "this AsyncClient belongs to another event loop; make one in each, or use taskbell.client.Client"
            raise RuntimeError(msg)


def check_url(broker_url: str) -> None:
    """Raises ValueError, without the URL's password, where that is no AMQP URL."""
    parts = urlsplit(broker_url)
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        msg = "broker_url must look like amqp://user:password@host:5672/ (a virtual host follows the last slash)"
        raise ValueError(msg)
