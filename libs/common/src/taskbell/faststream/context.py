"""What a handler may ask FastStream for, besides the body."""

from typing import Annotated, Any

from faststream import Context

from taskbell.messaging.consuming.delivery import Envelope

ENVELOPE = "taskbell_envelope"
TRANSACTION = "taskbell_transaction"

MessageEnvelope = Annotated[Envelope, Context(ENVELOPE)]
"""Annotation of the parameter that gets the message's envelope: ids, headers, tries."""

Transaction = Annotated[Any, Context(TRANSACTION)]
"""Annotation of the parameter that gets what `HandledMessages.once` gave: the transaction for the handler's work."""
