"""Plans the mails about a stored report, to the operators in REPORT_RECIPIENTS."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

from taskbell.contracts import ReportGenerated, SendBatch
from taskbell.database import Database, Transaction
from taskbell.messaging.consuming.delivery import Received
from taskbell.outbox import Outbox, OutboxMessage
from taskbell_notifier.kinds import report
from taskbell_notifier.kinds.table import expires_at
from taskbell_notifier.lifecycle import IN_QUEUE
from taskbell_notifier.planning.mailings import digest_of, is_repeated
from taskbell_notifier.repository import mailings
from taskbell_notifier.repository.mailings import NewMailing
from taskbell_notifier.repository.planning import BATCH


class ReportMails:
    """The use case of `report.generated`: one row for each recipient and report date; T is the report's `as_of`.

    Args:
        recipients: addresses. They are few, so all are planned in the transaction that inserts the mailing.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        *,
        recipients: Sequence[str],
        expiry: Mapping[str, timedelta],
        completion: asyncio.Event,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._recipients = tuple({address.lower(): address for address in recipients}.values())
        self._expiry = expiry
        self._completion = completion

    async def announce(self, events: Sequence[Received[ReportGenerated]]) -> None:
        """Plans the mails about each report; a report made again for the same date adds none."""
        async with self._database.transaction() as transaction:
            for event in events:
                await self._announce(transaction, event)
            transaction.after_commit(self._completion.set)

    async def _announce(self, transaction: Transaction, event: Received[ReportGenerated]) -> None:
        kind, digest, day = report.KIND, digest_of(event.body), event.body.date.isoformat()
        if await is_repeated(transaction, event.envelope, kind.name, digest):
            return
        mailing = await mailings.insert(
            transaction,
            NewMailing(
                message_id=event.message_id,
                kind=kind.name,
                digest=digest,
                expiry=self._expiry.get(kind.name, kind.expiry),
                at=event.body.as_of,
                props={"date": day},
                direct=True,
            ),
        )
        if mailing is None or mailing.late:
            return
        ids = await mailings.insert_direct(
            transaction,
            mailing,
            kind.name,
            addresses=self._recipients,
            period=day,
            expires_at=expires_at(kind, mailing.at, self._expiry),
            wait=IN_QUEUE,
        )
        batches = [tuple(ids[start : start + BATCH]) for start in range(0, len(ids), BATCH)]
        await self._outbox.add(transaction, [OutboxMessage(SendBatch(delivery_ids=batch)) for batch in batches])
