"""Starts mailings: an event inserts the row of a mailing, and the planner plans it from there.

If the event names the one user who gets the mail, the mailing's row and its one ledger row are inserted together.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from taskbell.contracts import MailingDue, UserEvent
from taskbell.database import Database, Transaction
from taskbell.errors import Never
from taskbell.logs import logger
from taskbell.messaging.consuming.delivery import Received
from taskbell.outbox import Outbox
from taskbell_notifier.kinds.table import Kinds
from taskbell_notifier.planning.inserting import insert_mailing, insert_recipients

LARGEST_EVENT = 10_000
"""Bytes of what a package's contract adds to our fields: it is read again with every mail."""


class Mailings:
    """The use case of the events that ask for mail to users.

    Args:
        expiry: by kind, how long after T its mails are sent; a kind that is missing has its own.
        planning: is set if there is a mailing to plan.
        completion: is set if a mailing may be over already.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        kinds: Kinds,
        *,
        expiry: Mapping[str, timedelta],
        planning: asyncio.Event,
        completion: asyncio.Event,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._kinds = kinds
        self._expiry = expiry
        self._planning = planning
        self._completion = completion
        self._log = logger("mailings")

    async def start(self, events: Sequence[Received[MailingDue]]) -> None:
        """Inserts a mailing for each event; a message that comes again changes nothing."""
        async with self._database.transaction() as transaction:
            for event in events:
                await self._start(transaction, event)
            transaction.after_commit(self._planning.set)
            transaction.after_commit(self._completion.set)

    async def announce(self, events: Sequence[Received[UserEvent]]) -> None:
        """Plans one mail for each event, to the user whom it names; an event with a former key adds none."""
        async with self._database.transaction() as transaction:
            for event in events:
                await self._announce(transaction, event)
            transaction.after_commit(self._completion.set)

    async def _start(self, transaction: Transaction, event: Received[MailingDue]) -> None:
        body, kind = event.body, self._kinds.of_event(type(event.body))
        inserted = await insert_mailing(
            transaction,
            kind,
            event,
            self._expiry,
            occurrence=body.occurrence,
            at=body.occurrence,
            timezone=body.timezone,
            user_ids=body.user_ids,
            force=body.force,
            props=props_of(body),
        )
        if inserted is not None:
            note = self._log.warning if inserted.late else self._log.info
            note("mailing.late" if inserted.late else "mailing.started", mailing_id=inserted.id, kind=kind.name)

    async def _announce(self, transaction: Transaction, event: Received[UserEvent]) -> None:
        body, kind = event.body, self._kinds.of_event(type(event.body))
        mailing = await insert_mailing(transaction, kind, event, self._expiry, props=props_of(body), direct=True)
        if mailing is not None:
            period = f"key:{body.key}"
            await insert_recipients(
                transaction, self._outbox, kind, mailing, self._expiry, users=[body.user_id], period=period
            )


def props_of(body: MailingDue | UserEvent) -> dict[str, Any] | None:
    """What is kept of an event for what its mails say; under `event`, the fields that a contract adds to ours.

    Raises:
        Never: those take more than LARGEST_EVENT.
    """
    ours = MailingDue if isinstance(body, MailingDue) else UserEvent
    said = body.model_dump(mode="json", exclude=set(ours.model_fields))
    size = len(json.dumps(said))
    if size > LARGEST_EVENT:
        msg = f"{', '.join(said)} take {size} bytes; what an event of a kind of mail adds may take {LARGEST_EVENT}"
        raise Never(msg)
    if isinstance(body, UserEvent):
        return {"task_id": body.task_id, "key": body.key, "event": said}
    return {"event": said} if said else None
