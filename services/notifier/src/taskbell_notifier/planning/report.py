"""Plans the mails about a stored report, to the operators in REPORT_RECIPIENTS."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

from taskbell.contracts import ReportGenerated
from taskbell.database import Database, Transaction
from taskbell.messaging.consuming.delivery import Received
from taskbell.outbox import Outbox
from taskbell_notifier.addresses import read_address
from taskbell_notifier.kinds import report
from taskbell_notifier.planning.inserting import insert_mailing, insert_recipients


class ReportMails:
    """The use case of `report.generated`: one row for each recipient and report date; T is the report's `as_of`.

    Args:
        recipients: valid addresses. They are few, so all are planned in the transaction that inserts the mailing.
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
        addresses = filter(None, map(read_address, recipients))
        self._recipients = tuple({address.key: address.addr_spec for address in addresses}.values())
        self._expiry = expiry
        self._completion = completion

    async def announce(self, events: Sequence[Received[ReportGenerated]]) -> None:
        """Plans the mails about each report; a report made again for the same date adds none."""
        async with self._database.transaction() as transaction:
            for event in events:
                await self._announce(transaction, event)
            transaction.after_commit(self._completion.set)

    async def _announce(self, transaction: Transaction, event: Received[ReportGenerated]) -> None:
        kind, day = report.KIND, event.body.date.isoformat()
        mailing = await insert_mailing(
            transaction, kind, event, self._expiry, at=event.body.as_of, props={"date": day}, direct=True
        )
        if mailing is not None and not mailing.late:
            await insert_recipients(
                transaction, self._outbox, kind, mailing, self._expiry, addresses=self._recipients, period=day
            )
