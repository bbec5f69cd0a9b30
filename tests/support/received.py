"""Messages as handlers get them, without a broker."""

from typing import Any
from uuid import uuid4

from taskbell.catalogue import message_of
from taskbell.contracts import Contract
from taskbell.messaging.consuming.delivery import Envelope, Received


def envelope(queue: str, exchange: str, routing_key: str, message_id: str, **changes: Any) -> Envelope:
    """The envelope of a message that is delivered for the first time, but for the changes."""
    known: dict[str, Any] = {
        "queue": queue,
        "exchange": exchange,
        "routing_key": routing_key,
        "message_id": message_id,
        "anonymous": False,
        "redelivered": False,
        "attempt": 0,
        "correlation_id": None,
        "reply_to": None,
        "type": None,
        "content_type": None,
        "headers": {},
    }
    return Envelope(**(known | changes))


def received(body: Contract, message_id: str | None = None, **changes: Any) -> Received[Any]:
    """A message with that body; a message_id is made if none is given."""
    row = message_of(body)
    assert row.queue is not None, f"nobody consumes {row.routing_key}"
    return Received(body, envelope(row.queue, row.exchange, row.routing_key, message_id or str(uuid4()), **changes))
