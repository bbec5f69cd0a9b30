"""Publishing over the app's FastStream broker: persistent, confirmed, within a time limit."""

import asyncio
from typing import Generic

import aio_pika
import aiormq
from aio_pika.abc import DeliveryMode
from aiormq.abc import DeliveredMessage
from faststream.exceptions import SubscriberNotFound
from faststream.rabbit.publisher import RabbitPublisher

from taskbell.client.messages import message_for
from taskbell.errors import BrokerUnavailable, PublishTimeout, Unroutable
from taskbell.messaging.consuming.delivery import Body, Envelope
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.wire.connection_errors import in_words
from taskbell.messaging.wire.properties import TRACEPARENT, text_of

PUBLISH_TIMEOUT = 5.0
"""Seconds within which RabbitMQ must confirm."""

_LOST = (aiormq.exceptions.AMQPError, aiormq.exceptions.ChannelInvalidStateError, OSError)


class MessagePublisher(Generic[Body]):
    """Publishes one message of the catalogue.

    Attributes:
        publisher: FastStream's, with what `TestRabbitBroker` offers to ask it for.
    """

    def __init__(self, publisher: RabbitPublisher) -> None:
        self.publisher = publisher

    async def publish(
        self,
        body: Body,
        *,
        message_id: str | None = None,
        correlation_id: str | None = None,
        cause: Envelope | None = None,
    ) -> str:
        """Publishes it, and returns its message_id once RabbitMQ has confirmed it.

        After any error it is safe to publish again with the same message_id.

        Args:
            message_id: identifies the message; by default a new UUID. A handler that may run again gives one that
                follows from its own message, such as `f"{envelope.message_id}.report"`.
            correlation_id: sent along; by default that of the cause.
            cause: of the message on whose behalf this one is published; its trace context goes along, too.

        Raises:
            PublishTimeout: no confirm in time; the message may still arrive.
            Unroutable: no queue is bound to its routing key: `taskbell setup` was not run, or a queue was deleted.
            BrokerUnavailable: RabbitMQ does not answer or refuses us. Each of these three errors has the message_id.
            ValueError: an id is empty, longer than 255 bytes or holds U+0000.
        """
        if cause is not None and correlation_id is None:
            correlation_id = cause.correlation_id or cause.message_id
        traceparent = None if cause is None else text_of(cause.headers.get(TRACEPARENT))
        message = message_for(body, message_id=message_id, correlation_id=correlation_id, traceparent=traceparent)
        try:
            await send(self.publisher, message)
        except (BrokerUnavailable, Unroutable) as error:
            error.message_id = message.message_id
            raise
        return message.message_id


async def send(publisher: RabbitPublisher, message: Outgoing) -> None:
    """Publishes and waits for the confirm.

    Raises:
        PublishTimeout, Unroutable, BrokerUnavailable: as for `MessagePublisher.publish`.
    """
    unroutable = Unroutable(f"no queue is bound for {message.routing_key!r} at exchange {message.exchange!r}")
    try:
        # FastStream's own timeout does not cover the wait for a connection.
        async with asyncio.timeout(PUBLISH_TIMEOUT):
            answer = await publisher.publish(
                _message(message), routing_key=message.routing_key, mandatory=message.mandatory
            )
    except TimeoutError:
        raise PublishTimeout(f"RabbitMQ did not confirm within {PUBLISH_TIMEOUT:g} s") from None
    except (aiormq.exceptions.PublishError, SubscriberNotFound):  # the latter is TestRabbitBroker's
        raise unroutable from None
    except _LOST as error:
        raise BrokerUnavailable(f"RabbitMQ: {in_words(error)}") from error
    # Unless the app's channel is set to raise, a message that no queue took comes back like a confirm.
    if isinstance(answer, DeliveredMessage):
        raise unroutable


def _message(message: Outgoing) -> aio_pika.Message:
    return aio_pika.Message(
        message.body,
        headers=dict(message.headers),
        content_type=message.content_type,
        delivery_mode=DeliveryMode.PERSISTENT if message.persistent else DeliveryMode.NOT_PERSISTENT,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
    )
