"""Makes the message that goes to the broker, from a body and its row of the catalogue."""

from datetime import datetime

from taskbell.contracts import Message
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.wire.properties import TRACEPARENT


def outgoing(
    message: Message,
    body: bytes,
    *,
    message_id: str,
    timestamp: datetime,
    correlation_id: str | None = None,
    traceparent: str | None = None,
    reply_to: str | None = None,
) -> Outgoing:
    """The message for that row of the catalogue.

    Args:
        body: the encoded body.
        timestamp: when the message was made; an aware datetime.
    """
    return Outgoing(
        exchange=message.exchange,
        routing_key=message.routing_key,
        body=body,
        message_id=message_id,
        type=message.routing_key,
        timestamp=timestamp,
        correlation_id=correlation_id,
        reply_to=reply_to,
        headers={TRACEPARENT: traceparent} if traceparent else {},
        mandatory=message.mandatory,
    )
