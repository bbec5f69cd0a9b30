"""Commands whose outcome is that of a mail: who asked, and what the mail waits for."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from taskbell.contracts import SendTestMail
from taskbell.database import Transaction
from taskbell.messaging.consuming.delivery import Envelope, Received
from taskbell_notifier.lifecycle import DeliveryState

# Whoever asks again under the same ids gets one reply: their first delivery is kept.
ADD = """
    INSERT INTO taskbell.awaited_command (message_id, reply_to, correlation_id, delivery_id, envelope, body)
    VALUES (:message_id, :reply_to, :correlation_id, :delivery_id, CAST(:envelope AS jsonb), :body)
    ON CONFLICT (message_id, reply_to, correlation_id) DO NOTHING
"""

FIND = """
    SELECT d.id FROM taskbell.mailing AS m JOIN taskbell.delivery AS d ON d.id = m.first_delivery
    WHERE m.kind = :kind AND (m.message_id = :message_id OR m.id = :mailing)
"""

OPEN = """
    SELECT a.envelope::text AS envelope, a.body, a.reason AS told, d.id, d.mailing_id, d.state, d.reason,
        d.id IS NULL OR d.ended_at IS NOT NULL AS ended
    FROM taskbell.awaited_command AS a
    LEFT JOIN taskbell.delivery AS d ON d.id = a.delivery_id
    ORDER BY ended DESC, a.received_at
    LIMIT :limit
    FOR UPDATE OF a SKIP LOCKED
"""

TELL = """
    UPDATE taskbell.awaited_command AS a SET reason = t.reason
    FROM unnest(CAST(:ids AS text[]), CAST(:reasons AS text[])) AS t (message_id, reason)
    WHERE a.message_id = t.message_id
"""

REMOVE = """
    DELETE FROM taskbell.awaited_command AS a
    USING unnest(CAST(:ids AS text[]), CAST(:replies AS text[]), CAST(:correlations AS text[]))
        AS r (message_id, reply_to, correlation_id)
    WHERE a.message_id = r.message_id AND a.reply_to = r.reply_to AND a.correlation_id = r.correlation_id
"""


@dataclass(frozen=True, slots=True)
class Awaited:
    """A command, and the mail that it waits for."""

    command: Received[SendTestMail]
    told: str | None
    """The reason that is stored: what the mail waits for."""
    delivery_id: int | None
    """None: the ledger has no such row any more."""
    mailing_id: int | None
    state: DeliveryState | None
    reason: str | None
    ended: bool


async def add(transaction: Transaction, command: Received[SendTestMail], delivery_id: int) -> None:
    """Stores that this command waits for that mail."""
    envelope = command.envelope
    stored = {
        "queue": envelope.queue,
        "exchange": envelope.exchange,
        "routing_key": envelope.routing_key,
        "message_id": envelope.message_id,
        "anonymous": envelope.anonymous,
        "attempt": envelope.attempt,
        "correlation_id": envelope.correlation_id,
        "reply_to": envelope.reply_to,
    }
    parameters = {"delivery_id": delivery_id, "envelope": json.dumps(stored), "body": command.body.to_bytes().decode()}
    await transaction.execute(ADD, _key(envelope) | parameters)


async def mail_of(transaction: Transaction, kind: str, message_id: str, mailing: int | None) -> int | None:
    """The delivery that this message, or the mailing of the same message, has planned before."""
    found = await transaction.value(FIND, {"kind": kind, "message_id": message_id, "mailing": mailing})
    return None if found is None else int(found)


async def open_commands(transaction: Transaction, limit: int) -> Sequence[Awaited]:
    """Commands that have no outcome, locked; those whose mails have ended come first."""
    return [
        Awaited(
            Received(SendTestMail.parse(row.body.encode()), _envelope(json.loads(row.envelope))),
            row.told,
            row.id,
            row.mailing_id,
            None if row.state is None else DeliveryState(row.state),
            row.reason,
            row.ended,
        )
        for row in await transaction.rows(OPEN, {"limit": limit})
    ]


async def tell(transaction: Transaction, reasons: Sequence[tuple[str, str]]) -> None:
    """Stores what commands wait for, by message_id."""
    parameters = {"ids": [message_id for message_id, _ in reasons], "reasons": [reason for _, reason in reasons]}
    await transaction.execute(TELL, parameters)


async def remove(transaction: Transaction, commands: Sequence[Received[SendTestMail]]) -> None:
    """Removes commands that have their outcome."""
    keys = [_key(command.envelope) for command in commands]
    parameters = {
        "ids": [key["message_id"] for key in keys],
        "replies": [key["reply_to"] for key in keys],
        "correlations": [key["correlation_id"] for key in keys],
    }
    await transaction.execute(REMOVE, parameters)


def _key(envelope: Envelope) -> dict[str, str]:
    return {
        "message_id": envelope.message_id,
        "reply_to": envelope.reply_to or "",
        "correlation_id": envelope.correlation_id or "",
    }


def _envelope(stored: dict[str, str]) -> Envelope:
    return Envelope(**stored, redelivered=False, type=None, content_type=None, headers={})  # type: ignore[arg-type]
