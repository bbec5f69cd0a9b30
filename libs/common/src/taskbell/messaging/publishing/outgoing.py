"""A message as it goes to the broker, and its frames."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiormq.channel import Channel
from pamqp import frame
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be published."""

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


def encoded(channel: Channel, message: Outgoing) -> bytes:
    """The message's frames on that channel.

    Raises:
        ValueError: AMQP cannot carry it, or it has no message_id, by which aiormq finds what a returned message was.
    """
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
