"""A message of a Taskbell queue, as FastStream hands it on."""

from dataclasses import replace

from aio_pika import IncomingMessage
from faststream.rabbit import RabbitMessage
from pamqp.commands import Basic

from taskbell.contracts import MAX_BODY_BYTES, Contract, Message
from taskbell.errors import Never
from taskbell.messaging.consuming.delivery import Envelope, check_whole, read_envelope, stray
from taskbell.messaging.topology import Binding


class TaskbellMessage(RabbitMessage):
    """One that has its envelope, with the ids that it was published with.

    Attributes:
        has_outcome: whether whoever sent it may wait for an outcome.
        stray: why it must not be handled, if it came another way than this queue's messages do.
    """

    def __init__(
        self, incoming: IncomingMessage, envelope: Envelope, *, has_outcome: bool, stray: str | None = None
    ) -> None:
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
        self.stray = stray


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
    if len(incoming.body) > MAX_BODY_BYTES:
        envelope = replace(envelope, size=len(incoming.body))
    why = stray(envelope, Binding(row.exchange, queue, row.routing_key))
    return TaskbellMessage(incoming, envelope, has_outcome=row.has_outcome and why is None, stray=why)


def body_of(contract: type[Contract], message: TaskbellMessage) -> Contract:
    """The body, read by the contract from its raw bytes.

    Raises:
        InvalidMessage: it does not validate.
        Never: it is a stray.
    """
    if message.stray is not None:
        raise Never(message.stray)
    check_whole(message.envelope)
    return contract.parse(message.body)
