"""A delivered message, as handlers see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import uuid4

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from taskbell.contracts import Contract
from taskbell.messaging.wire import properties
from taskbell.messaging.wire.properties import text_of

Body = TypeVar("Body", bound=Contract)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What travelled around the body."""

    queue: str
    exchange: str
    """Where it was first published, also after a retry."""
    routing_key: str
    message_id: str
    """The raw AMQP message_id, or a UUID of this delivery if it came without one."""
    anonymous: bool
    """Whether it came without a message_id."""
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
    """How often it came back to its quorum queue."""

    @property
    def again(self) -> bool:
        """Whether it may have been handled before."""
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


def envelope_of(queue: str, message: DeliveredMessage) -> Envelope:
    """Reads the envelope; it does not fail, whatever anybody put into the message."""
    return read_envelope(
        queue,
        message.header.properties,
        exchange=message.exchange,
        routing_key=message.routing_key,
        redelivered=bool(message.redelivered),
    )


def read_envelope(
    queue: str, given: Basic.Properties, *, exchange: object, routing_key: object, redelivered: bool
) -> Envelope:
    """The envelope of a delivery with these properties."""
    headers = properties.own_headers(given.headers) if given.headers else {}
    own_id = text_of(given.message_id)
    return Envelope(
        queue=queue,
        exchange=text_of(headers.get(properties.EXCHANGE)) or text_of(exchange) or "",
        routing_key=text_of(headers.get(properties.ROUTING_KEY)) or text_of(routing_key) or "",
        message_id=own_id or str(uuid4()),
        anonymous=own_id is None or headers.get(properties.ANONYMOUS) is True,
        redelivered=redelivered,
        # Anybody may write such a header into a new message.
        returns=_count((given.headers or {}).get("x-delivery-count")) if redelivered else 0,
        attempt=properties.attempt_of(headers),
        correlation_id=text_of(given.correlation_id),
        reply_to=text_of(given.reply_to),
        type=text_of(given.message_type),
        content_type=text_of(given.content_type),
        headers=headers,
        timestamp=given.timestamp,
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
