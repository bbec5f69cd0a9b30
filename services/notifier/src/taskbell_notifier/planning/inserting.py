"""Inserts the mailing that a message asks for, and the rows of its recipients if they are few and known at once."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from taskbell.catalogue import message_of
from taskbell.contracts import Contract, SendBatch
from taskbell.database import Transaction
from taskbell.identity import digest_of
from taskbell.kinds import Kind
from taskbell.messaging.consuming.delivery import Envelope, Received
from taskbell.outbox import Outbox, OutboxMessage
from taskbell_notifier.kinds.table import expires_at
from taskbell_notifier.lifecycle import IN_QUEUE
from taskbell_notifier.repository import mailings
from taskbell_notifier.repository.mailings import Inserted, NewMailing
from taskbell_notifier.repository.planning import BATCH


async def insert_mailing(
    transaction: Transaction,
    kind: Kind,
    received: Received[Any],
    expiry: Mapping[str, timedelta],
    *,
    occurrence: datetime | None = None,
    at: datetime | None = None,
    timezone: str | None = None,
    user_ids: Sequence[int] | None = None,
    force: bool = False,
    props: Mapping[str, Any] | None = None,
    direct: bool = False,
) -> Inserted | None:
    """Inserts a mailing; None: this message has been handled before.

    Args:
        expiry: by kind, how long after T its mails are sent; a kind that is missing has its own.
        at: T; None: the moment of the insert.
        direct: its recipients are inserted together with it, so there is nothing to plan.

    Raises:
        AnothersId: another message has started a mailing under this message_id.
        Retry: its occurrence has not come yet; or it has no id of its own, and somebody holds the lock on it.
    """
    body_digest = body_digest_of(received.body)
    if await _is_repeated(transaction, received.envelope, kind.name, body_digest):
        return None
    new = NewMailing(
        message_id=received.message_id,
        kind=kind.name,
        body_digest=body_digest,
        digest=digest_of(received.body),
        expiry=expiry.get(kind.name, kind.expiry),
        occurrence=occurrence,
        at=at,
        timezone=timezone,
        user_ids=user_ids,
        force=force,
        props=props,
        direct=direct,
    )
    return await mailings.insert(transaction, new)


async def insert_recipients(
    transaction: Transaction,
    outbox: Outbox,
    kind: Kind,
    mailing: Inserted,
    expiry: Mapping[str, timedelta],
    *,
    users: Sequence[int] = (),
    addresses: Sequence[str] = (),
    period: str,
) -> Sequence[int]:
    """Rows for users, or for addresses that are not users', and the messages that send them.

    Returns:
        The ids of the rows; a recipient who had one for this period before gets none.
    """
    ids = await mailings.insert_direct(
        transaction,
        mailing,
        kind.name,
        users=users,
        addresses=addresses,
        period=period,
        expires_at=expires_at(kind, mailing.at, expiry),
        wait=IN_QUEUE,
    )
    batches = [tuple(ids[start : start + BATCH]) for start in range(0, len(ids), BATCH)]
    await outbox.add(transaction, [OutboxMessage(SendBatch(delivery_ids=batch)) for batch in batches])
    return ids


async def _is_repeated(transaction: Transaction, message: Envelope, kind: str, body_digest: str) -> bool:
    """True if this message has no id of its own, is delivered again, and its mailing has been inserted already.

    Such a message gets a new id at each delivery, so it is recognised by the same routing key and body within an hour.
    """
    if not (message.anonymous and message.again):
        return False
    return await mailings.same_within_an_hour(transaction, kind, body_digest) is not None


def body_digest_of(body: Contract) -> str:
    """SHA-256 of routing key and body, in hexadecimal."""
    return hashlib.sha256(message_of(body).routing_key.encode() + b"\0" + body.to_bytes()).hexdigest()
