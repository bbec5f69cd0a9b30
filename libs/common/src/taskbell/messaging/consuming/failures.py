"""Messages that could not be handled: their way to the retry ladder, or with the reason to the dead letters."""

from typing import Literal, NamedTuple

from taskbell.contracts import MAX_BODY_BYTES
from taskbell.errors import Never
from taskbell.messaging.consuming.delivery import Envelope
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.topology import DEAD, RETRIES, dead_queue, service_of
from taskbell.messaging.wire import properties
from taskbell.messaging.wire.frames import KEPT

REASON_LIMIT = 1000
"""Characters of a reason."""


def reason_of(error: BaseException) -> str:
    """The reason in one printable line that a header and PostgreSQL can hold.

    An error that we did not word ourselves gives its first line only: in the lines after it PostgreSQL quotes rows.
    """
    if isinstance(error, Never):
        words = str(error)
    else:
        first, _, _ = str(error).partition("\n")
        words = f"{type(error).__name__}: {first}" if first else type(error).__name__
    text = words.replace("\x00", "").encode("utf-8", "replace").decode()
    # A reason may name a field as its sender did: control and bidi characters become blanks.
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:REASON_LIMIT]


class Move(NamedTuple):
    """Where a message that failed goes."""

    to: Literal["retried", "dead"]
    reason: str
    message: Outgoing


def move(envelope: Envelope, body: bytes, error: Exception) -> Move:
    """To the next rung of the retry ladder; to the dead letters after the last, or if it can never take effect."""
    reason = reason_of(error)
    if not isinstance(error, Never):
        if (again := retry(envelope, body)) is not None:
            return Move("retried", reason, again)
        reason = f"failed {envelope.attempt + 1} times; at last: {reason}"[:REASON_LIMIT]
    return Move("dead", reason, dead(envelope, body, reason))


def retry(envelope: Envelope, body: bytes) -> Outgoing | None:
    """The message for the next rung of the retry ladder, or None after the last."""
    if envelope.attempt >= len(RETRIES):
        return None
    exchange, _ = RETRIES[envelope.attempt]
    return _on_ladder(envelope, body, exchange, envelope.attempt + 1)


def postponed(envelope: Envelope, body: bytes) -> Outgoing:
    """The message for the first rung of the retry ladder; no try is counted."""
    exchange, _ = RETRIES[0]
    return _on_ladder(envelope, body, exchange, envelope.attempt)


def _on_ladder(envelope: Envelope, body: bytes, exchange: str, attempt: int) -> Outgoing:
    headers = {
        **properties.carried(envelope.headers),
        properties.ATTEMPT: attempt,
        properties.EXCHANGE: envelope.exchange,
        properties.ROUTING_KEY: envelope.routing_key,
    }
    if envelope.anonymous:
        headers[properties.ANONYMOUS] = True
    return _copy(envelope, body, exchange, envelope.queue, headers)


def dead(envelope: Envelope, body: bytes, reason: str) -> Outgoing:
    """The message for its service's dead letters; of a body that is too large only its first KEPT bytes."""
    headers = {
        **properties.carried(envelope.headers),
        properties.REASON: reason,
        properties.QUEUE: envelope.queue,
        properties.EXCHANGE: envelope.exchange,
        properties.ROUTING_KEY: envelope.routing_key,
        properties.ATTEMPT: envelope.attempt,
    }
    # A consumer that is not ours has read all of it.
    size = envelope.size or len(body)
    if size > MAX_BODY_BYTES:
        headers[properties.SIZE] = size
        body = body[:KEPT]
    return _copy(envelope, body, DEAD, dead_queue(service_of(envelope.queue)), headers)


def _copy(envelope: Envelope, body: bytes, exchange: str, key: str, headers: dict[str, object]) -> Outgoing:
    return Outgoing(
        exchange=exchange,
        routing_key=key,
        body=body,
        message_id=envelope.message_id,
        type=envelope.type,
        timestamp=envelope.timestamp,
        correlation_id=envelope.correlation_id,
        reply_to=envelope.reply_to,
        content_type=envelope.content_type,
        headers=headers,
        mandatory=True,
    )
