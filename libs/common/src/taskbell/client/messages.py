"""Makes the message that goes to the broker from a body."""

from datetime import UTC, datetime
from uuid import uuid4

from taskbell.catalogue import message_of
from taskbell.contracts import Contract, Message
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.outgoing import outgoing

MAX_ID_BYTES = 255
"""The limit of an AMQP property."""


def message_for(
    body: Contract,
    *,
    message_id: str | None,
    correlation_id: str | None,
    traceparent: str | None,
    reply_to: str | None = None,
) -> Outgoing:
    """The message that carries this body. If `message_id` is None, it gets a new UUID.

    Raises:
        TypeError: the body is not a message of the catalogue.
        ValueError: an id is empty, longer than 255 bytes or holds U+0000.
    """
    message = _message_of(body)
    return outgoing(
        message,
        body.to_bytes(),
        message_id=str(uuid4()) if message_id is None else _checked("message_id", message_id),
        timestamp=datetime.now(UTC),
        correlation_id=None if correlation_id is None else _checked("correlation_id", correlation_id),
        traceparent=traceparent,
        reply_to=reply_to,
    )


def check_has_outcome(body: Contract) -> None:
    """Raises TypeError if this message has no outcome, so that nobody would ever answer."""
    message = _message_of(body)
    if not message.has_outcome:
        msg = f"{message.routing_key} has no outcome to wait for: use publish() instead of request()"
        raise TypeError(msg)


def _message_of(body: Contract) -> Message:
    try:
        return message_of(body)
    except KeyError:
        msg = f"{type(body).__name__} is not a message of Taskbell; `taskbell messages` lists them"
        raise TypeError(msg) from None


def _checked(name: str, value: str) -> str:
    if not 1 <= len(value.encode()) <= MAX_ID_BYTES or "\x00" in value:
        msg = f"{name} must have 1 to {MAX_ID_BYTES} bytes and must not contain U+0000"
        raise ValueError(msg)
    return value
