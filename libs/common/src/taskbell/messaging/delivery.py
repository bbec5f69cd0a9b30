"""A delivered message, as handlers see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import uuid4

from aio_pika.abc import AbstractIncomingMessage

from taskbell.contracts import Contract
from taskbell.messaging import properties
from taskbell.messaging.properties import text_of

Body = TypeVar("Body", bound=Contract)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What travelled around the body."""

    queue: str
    exchange: str
    """Where it was first published, also after a retry."""
    routing_key: str
    message_id: str
    """The raw AMQP message_id, or a UUID of this delivery where it came without one."""
    anonymous: bool
    """It came without a message_id."""
    redelivered: bool
    attempt: int
    """How often it was tried before, on the retry ladder."""
    correlation_id: str | None
    reply_to: str | None
    type: str | None
    content_type: str | None
    headers: Mapping[str, Any]
    timestamp: datetime | None = None
    returns: int = 0
    """How often its quorum queue has had to take it back."""

    @property
    def again(self) -> bool:
        """Was it, perhaps, handled before?"""
        return self.redelivered or self.attempt > 0


@dataclass(frozen=True, slots=True)
class Received(Generic[Body]):
    """A message that validated."""

    body: Body
    envelope: Envelope

    @property
    def message_id(self) -> str:
        """The key under which it takes effect once."""
        return self.envelope.message_id


def envelope_of(queue: str, message: AbstractIncomingMessage) -> Envelope:
    """Reads the envelope; whatever anybody put into it, this does not fail."""
    headers = properties.own_headers(message.headers) if message.headers else {}
    own_id = text_of(message.message_id)
    return Envelope(
        queue=queue,
        exchange=text_of(headers.get(properties.EXCHANGE)) or text_of(message.exchange) or "",
        routing_key=text_of(headers.get(properties.ROUTING_KEY)) or text_of(message.routing_key) or "",
        message_id=own_id or str(uuid4()),
        anonymous=own_id is None or headers.get(properties.ANONYMOUS) is True,
        redelivered=bool(message.redelivered),
        returns=_returns(message),
        attempt=properties.attempt_of(headers),
        correlation_id=text_of(message.correlation_id),
        reply_to=text_of(message.reply_to),
        type=text_of(message.type),
        content_type=text_of(message.content_type),
        headers=headers,
        timestamp=message.timestamp,
    )


def _returns(message: AbstractIncomingMessage) -> int:
    # Anybody may write such a header into a new message.
    count = message.headers.get("x-delivery-count") if message.redelivered and message.headers else 0
    return count if isinstance(count, int) else 0
