"""A delivered message, as handlers see it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import uuid4

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from taskbell.contracts import MAX_BODY_BYTES, Contract
from taskbell.errors import InvalidMessage
from taskbell.messaging.topology import Binding
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
    size: int | None = None
    """Bytes of the body as it was sent, if only its first ones were kept because it is too large to be handled."""
    unreadable: str | None = None
    """Why the properties could not be decoded, if they could not."""

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
    given = message.header.properties
    envelope = read_envelope(
        queue,
        given,
        exchange=message.exchange,
        routing_key=message.routing_key,
        redelivered=bool(message.redelivered),
    )
    if given.headers and not properties.MARKS.isdisjoint(given.headers):
        unreadable = given.headers.get(properties.UNREADABLE)
        return replace(
            envelope,
            size=properties.cut_of(given.headers, properties.CUT) or envelope.size,
            unreadable=None if unreadable is None else text_of(unreadable, 1000) or properties.UNREADABLE,
        )
    return envelope


def read_envelope(
    queue: str, given: Basic.Properties, *, exchange: object, routing_key: object, redelivered: bool
) -> Envelope:
    """The envelope of a delivery with these properties.

    Taskbell's own headers count only in a message that came from the default exchange under its queue's name, as
    retries do: there only services may write.
    """
    headers = properties.own_headers(given.headers) if given.headers else {}
    came_from, came_under = text_of(exchange) or "", text_of(routing_key) or ""
    if headers and not (came_from == "" and came_under == queue):
        headers = properties.without_ours(headers)
    own_id = text_of(given.message_id)
    return Envelope(
        queue=queue,
        exchange=text_of(headers.get(properties.EXCHANGE)) or came_from,
        routing_key=text_of(headers.get(properties.ROUTING_KEY)) or came_under,
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
        size=properties.cut_of(headers, properties.SIZE),
    )


def check_whole(envelope: Envelope) -> None:
    """Raises InvalidMessage if the properties could not be decoded, or if not all of the body is here."""
    if envelope.unreadable is not None:
        raise InvalidMessage(envelope.unreadable)
    if envelope.size is not None:
        msg = f"body of {envelope.size} bytes is larger than {MAX_BODY_BYTES}"
        raise InvalidMessage(msg)


def stray(envelope: Envelope, binding: Binding) -> str | None:
    """Why this message must not be taken, or None: it did not come to its queue by one of the two ways.

    The ways are the catalogue's exchange under the message's own key, and the default exchange under the queue's name.
    RabbitMQ also copies a message to the keys in its headers CC and BCC, and 3.10 does not check whether its publisher
    may use these keys. One that came so stays a stray when it is moved back from the dead letters: its headers say from
    where it came first.
    """
    came = (envelope.exchange, envelope.routing_key)
    if came in ((binding.exchange, binding.routing_key), ("", binding.queue)):
        return None
    return (
        f"came from exchange {envelope.exchange!r} under {envelope.routing_key!r}, but {binding.queue} takes only what "
        f"comes from {binding.exchange} under {binding.routing_key}"
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
