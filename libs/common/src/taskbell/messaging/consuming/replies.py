"""The reply to a command: its outcome, for whoever asked."""

from taskbell.contracts import REPLY_TYPE
from taskbell.messaging.consuming.delivery import Envelope
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.wire.properties import text_of
from taskbell.outcomes import Outcome

REPLY_QUEUES = ("amq.rabbitmq.reply-to.", "amq.gen-", "reply.")
"""Replies go only to queues whose names begin so: nobody can make us write to a queue of a service."""


def reply_to(envelope: Envelope, outcome: Outcome) -> Outgoing | None:
    """The message that carries an outcome; None if nobody asked, or if its reply_to is not a queue for replies."""
    queue = envelope.reply_to
    if queue is None or not queue.startswith(REPLY_QUEUES):
        return None
    return Outgoing(
        exchange="",
        routing_key=queue,
        body=outcome.as_reply(envelope.message_id).to_bytes(),
        message_id=text_of(f"{envelope.message_id}.outcome") or envelope.message_id,
        type=REPLY_TYPE,
        correlation_id=envelope.correlation_id or envelope.message_id,
        persistent=False,
    )
