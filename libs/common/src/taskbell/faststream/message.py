"""A message of a Taskbell queue, as FastStream hands it on."""

from aio_pika import IncomingMessage
from faststream.rabbit import RabbitMessage
from pamqp.commands import Basic

from taskbell.contracts import Contract, Message
from taskbell.errors import InvalidMessage
from taskbell.messaging.consuming.delivery import Envelope, read_envelope
from taskbell.messaging.wire import properties


class TaskbellMessage(RabbitMessage):
    """One that has its envelope, with the ids that it was published with.

    Attributes:
        has_outcome: whether whoever sent it may wait for an outcome.
    """

    def __init__(self, incoming: IncomingMessage, envelope: Envelope, *, has_outcome: bool) -> None:
        super().__init__(
            raw_message=incoming,
            body=incoming.body,
            headers=dict(envelope.headers),
            reply_to=envelope.reply_to or "",
            content_type=envelope.content_type,
            message_id=envelope.message_id,
            correlation_id=envelope.correlation_id or envelope.message_id,
        )
        self.envelope = envelope
        self.has_outcome = has_outcome


def received(queue: str, row: Message, incoming: IncomingMessage) -> TaskbellMessage:
    """The message, of that row, that came from that queue; it does not fail, whatever anybody put into it."""
    given = Basic.Properties(
        content_type=incoming.content_type,
        headers=incoming.headers,
        correlation_id=incoming.correlation_id,
        reply_to=incoming.reply_to,
        message_id=incoming.message_id,
        timestamp=incoming.timestamp,
        message_type=incoming.type,
    )
    envelope = read_envelope(
        queue,
        given,
        exchange=incoming.exchange,
        routing_key=incoming.routing_key,
        redelivered=bool(incoming.redelivered),
    )
    return TaskbellMessage(incoming, envelope, has_outcome=row.has_outcome)


def body_of(contract: type[Contract], message: TaskbellMessage) -> Contract:
    """The body, read by the contract from its raw bytes.

    Raises:
        InvalidMessage: it does not validate.
    """
    if (unreadable := message.envelope.headers.get(properties.UNREADABLE)) is not None:
        raise InvalidMessage(properties.text_of(unreadable, 1000) or properties.UNREADABLE)
    return contract.parse(message.body)
