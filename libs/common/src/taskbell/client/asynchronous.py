"""The client for asyncio."""

import asyncio
import logging
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from uuid import uuid4

from taskbell.client.messages import check_has_outcome, message_for
from taskbell.client.requests import REPLY_TO, Requests
from taskbell.client.sending import send
from taskbell.contracts import CommandOutcome, Contract
from taskbell.identity import digest_of
from taskbell.messaging.publishing.publisher import Publisher

TIMEOUT = 5.0
"""Seconds that any call may take, connecting included."""

NAME = "taskbell client"

# If an app has no logging set up, aiormq's records would go to its standard error. We raise the same as errors.
logging.getLogger("aiormq").addHandler(logging.NullHandler())


class AsyncClient:
    """Publishes events and commands from asyncio code. Belongs to the event loop in which it is first used.

    Connects at its first use, and again after the connection was lost. `publish` uses one connection, `request` another
    one, which is opened when it is first called. Any number of tasks may use it at once.

    Args:
        broker_url: `amqp://user:password@host:5672/vhost`, or amqps://.
        timeout: seconds that a call may take, unless it is given its own.
        name: of the connections, in RabbitMQ's management UI.

    Raises:
        ValueError: the URL is not an AMQP URL.
    """

    def __init__(self, broker_url: str, *, timeout: float = TIMEOUT, name: str = NAME) -> None:
        check_url(broker_url)
        self.timeout = timeout
        self._publisher = Publisher(broker_url, name=name)
        self._requests = Requests(broker_url, name=f"{name} requests")
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

        After any error it is safe to publish again with the same message_id: the message takes effect once.

        Args:
            message_id: identifies the message; by default a new UUID.
            correlation_id: sent along, and stored with a command's outcome.
            traceparent: W3C trace context, sent along as a header.
            timeout: seconds for the whole call.

        Raises:
            PublishTimeout: no confirm in time; the message may still arrive.
            Unroutable: no queue is bound to its routing key: `taskbell setup` was not run, or a queue was deleted.
            TopologyMissing: the exchange is missing, or this user may not write to it: `taskbell setup` was not run.
            BrokerUnavailable: RabbitMQ does not answer, refuses us or accepts no messages now, or the connection broke.
                Each of these four errors has the message_id.
            TypeError: the body is not a message of Taskbell.
            ValueError: an id is empty, longer than 255 bytes or holds U+0000.
        """
        self._check_loop()
        message = message_for(body, message_id=message_id, correlation_id=correlation_id, traceparent=traceparent)
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
    ) -> CommandOutcome:
        """Publishes a command and returns how it ended, also if it was rejected or failed.

        Asking again with the same message_id is safe: the command takes effect once, and you get its stored outcome.

        Args:
            timeout: seconds for the whole call.
            message_id, correlation_id, traceparent: as for `publish`.

        Raises:
            OutcomeTimeout: the command was published, but its outcome did not arrive in time.
            OutcomeLost: the command was published, but the connection was lost before its outcome arrived. After both
                errors it may still take effect; `taskbell commands show` with the error's message_id shows whether.
            PublishTimeout, Unroutable, TopologyMissing, BrokerUnavailable, ValueError: as for `publish`.
            TypeError: it is not a command that has an outcome.
        """
        self._check_loop()
        check_has_outcome(command)
        message = message_for(
            command,
            message_id=message_id,
            correlation_id=correlation_id or str(uuid4()),
            traceparent=traceparent,
            reply_to=REPLY_TO,
        )
        limit = self.timeout if timeout is None else timeout
        return await self._requests.send(message, digest_of(command), limit)

    async def close(self) -> None:
        """Closes the connections; calls under way fail. A later call opens them again."""
        await asyncio.gather(self._publisher.close(), self._requests.close())

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
    """Raises ValueError, whose text holds no password, if this is not an AMQP URL."""
    parts = urlsplit(broker_url)
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        msg = "broker_url must look like amqp://user:password@host:5672/ (a virtual host follows the last slash)"
        raise ValueError(msg)
