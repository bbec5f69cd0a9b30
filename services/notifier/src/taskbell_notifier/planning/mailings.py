"""It is time for a mailing: its row is inserted, and planning runs from there."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta

from taskbell.contracts import Contract, MailingDue, MailKind, OverdueDue, ReminderDue, WeeklyDue, message_of
from taskbell.database import Database, Transaction
from taskbell.logs import logger
from taskbell.messaging.consuming.delivery import Envelope, Received
from taskbell_notifier.repository import mailings
from taskbell_notifier.repository.mailings import NewMailing

KINDS: Mapping[type[MailingDue], MailKind] = {
    ReminderDue: MailKind.REMINDER,
    OverdueDue: MailKind.OVERDUE,
    WeeklyDue: MailKind.WEEKLY,
}
"""The mailing that each event is about."""


class Mailings:
    """The use case of the three `*.due` events.

    Args:
        expiry: by kind, how long after T its mails are sent.
        planning: set when there is a mailing to plan.
        completion: set when one may be over already.
    """

    def __init__(
        self,
        database: Database,
        *,
        expiry: Mapping[MailKind, timedelta],
        planning: asyncio.Event,
        completion: asyncio.Event,
    ) -> None:
        self._database = database
        self._expiry = expiry
        self._planning = planning
        self._completion = completion
        self._log = logger("mailings")

    async def start(self, events: Sequence[Received[MailingDue]]) -> None:
        """Inserts a mailing for each event; a repeated message is the same mailing, and changes nothing."""
        async with self._database.transaction() as tx:
            for event in events:
                await self._start(tx, event)
            tx.after_commit(self._planning.set)
            tx.after_commit(self._completion.set)

    async def _start(self, tx: Transaction, event: Received[MailingDue]) -> None:
        body, kind = event.body, KINDS[type(event.body)]
        digest = digest_of(body)
        if await joins(tx, event.envelope, kind, digest):
            return
        inserted = await mailings.insert(
            tx,
            NewMailing(
                message_id=event.message_id,
                kind=kind,
                digest=digest,
                expiry=self._expiry[kind],
                occurrence=body.occurrence,
                at=body.occurrence,
                timezone=body.timezone,
                user_ids=body.user_ids,
                force=body.force,
            ),
        )
        if inserted is not None:
            note = self._log.warning if inserted.late else self._log.info
            note("mailing.late" if inserted.late else "mailing.started", mailing_id=inserted.id, kind=kind.value)


async def joins(tx: Transaction, message: Envelope, kind: MailKind, digest: str) -> bool:
    """Has the mailing of this message, delivered before and without an id of its own, been inserted already?

    Such a message has a new id at each delivery; the same key and body within an hour are what tells it.
    """
    if not (message.anonymous and message.again):
        return False
    return await mailings.joined(tx, kind, digest) is not None


def digest_of(body: Contract) -> str:
    """SHA-256 of routing key and body, in hexadecimal."""
    return hashlib.sha256(message_of(body).routing_key.encode() + b"\0" + body.to_bytes()).hexdigest()
