"""The ledger while mails are being sent: claims, leases, data markers and outcomes, committed together.

If a data marker cannot be committed, its mail is not sent. An outcome that cannot be committed is tried again for as
long as this process lives, because without it the mail's outcome would be unknown.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from taskbell.concurrency import first_of
from taskbell.database import Database, is_passing
from taskbell.errors import DatabaseUnavailable
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell.outbox import Outbox
from taskbell_notifier.delivery.group_commit import LATER, GroupCommit, Later, SplitGroup
from taskbell_notifier.lifecycle import Change, Claimed, DeliveryState
from taskbell_notifier.metrics import NotifierMetrics
from taskbell_notifier.repository import deliveries, refusals

SLACK = timedelta(seconds=60)
"""Added to the time that the server may take for a message, so that the outcome can be committed."""

RENEWALS = 3
"""Renewals within one lease, so that one that fails does not lose it."""

PAUSE = 1.0
"""Longest wait between tries to write an outcome, in seconds; while the service stops, the gate stays closed."""


class Ledger:
    """What senders write to the ledger.

    Args:
        lease: how long a claim lasts without renewal.
        data: how long the server may take from the first byte of a message to its reply.
        domain: the sender's domain, for Message-IDs.
        hold: True if rows of unknown outcome are not sent again.
        sessions: returns the number of mails that are being handed over; each of them will ask for its marker.
        on_ended: called when rows have ended.
    """

    def __init__(
        self,
        database: Database,
        *,
        gate: Gate,
        outbox: Outbox,
        metrics: NotifierMetrics,
        lease: timedelta,
        data: timedelta,
        domain: str,
        hold: bool,
        sessions: Callable[[], int],
        on_ended: Callable[[], None],
    ) -> None:
        self.name = "leases"
        self._database = database
        self._gate = gate
        self._outbox = outbox
        self._metrics = metrics
        self._lease = lease
        self._data = data + SLACK
        self._domain = domain
        self._hold = hold
        self._on_ended = on_ended
        self._claimed: dict[int, Claimed] = {}
        self._cancelled: set[int] = set()
        """Mailings that were found cancelled when a marker was refused."""
        # A session waits for its marker, so a group waits for the markers of all sessions; outcomes join any group.
        self._writes: GroupCommit[Claimed | Change, bool] = GroupCommit(
            self._write, pause=self._pause, complete=lambda asked: asked >= sessions()
        )
        self._log = logger("ledger")

    async def claim(self, ids: Sequence[int]) -> Sequence[Claimed]:
        """Claims those of the rows that may be sent now; their leases are renewed until their outcome is written.

        Raises:
            DatabaseUnavailable: no claim is known to be committed; one that was committed ends with its lease.
        """
        async with self._database.statement() as transaction:
            rows = await deliveries.claim(transaction, ids, lease=self._lease, domain=self._domain, hold=self._hold)
        for row in rows:
            self._claimed[row.id] = row
            # It would not have been claimed if its mailing were cancelled still.
            self._cancelled.discard(row.mailing_id)
        return rows

    async def locked(self, ids: Sequence[int]) -> Sequence[int]:
        """Those of the rows that may be sent now: a claim left them out because another transaction had them locked.

        Raises:
            DatabaseUnavailable: PostgreSQL is away.
        """
        async with self._database.statement() as transaction:
            return await deliveries.takable(transaction, ids, hold=self._hold)

    async def mark_data(self, row: Claimed) -> bool:
        """Commits the data marker. Only if this returns True may the first byte of the message be sent.

        Raises:
            DatabaseUnavailable: the marker is not known to be committed, so the message must not be sent.
        """
        if await self._writes.ask(row):
            return True
        if row.mailing_id not in self._cancelled:
            async with self._database.statement() as transaction:
                if await deliveries.is_cancelled(transaction, row.mailing_id):
                    self._cancelled.add(row.mailing_id)
        return False

    def is_cancelled(self, row: Claimed) -> bool:
        """Whether the row's mailing is known to be cancelled; the marker would refuse it."""
        return row.mailing_id in self._cancelled

    def record(self, change: Change) -> "asyncio.Future[bool]":
        """Writes an outcome, even if the caller is cancelled.

        The future's result is True if it was written, False if the claim had been lost.
        """
        return self._writes.add(change)

    def forget(self, changes: Iterable[Change]) -> None:
        """Stops renewing the leases of these rows, except of a row that was claimed again since, after a stall."""
        for change in changes:
            row = self._claimed.get(change.id)
            if row is not None and row.claim == change.claim:
                del self._claimed[change.id]

    async def run(self, stop: asyncio.Event) -> None:
        """Renews leases until `stop`. Who still waits then is returned at once, and needs no more of them."""
        await self._gate.rounds(self.name, self._renew, stop)

    async def _renew(self) -> float:
        if self._claimed:
            async with self._database.transaction() as transaction:
                await deliveries.renew(transaction, self._claimed.values(), lease=self._lease)
        return self._lease.total_seconds() / RENEWALS

    async def close(self, timeout: float = 2.0) -> None:
        """Writes what is left. Outcomes that cannot be written in time are lost; the sweeper judges their rows."""
        left = [it for it in await self._writes.finish(timeout) if isinstance(it, Change)]
        if left:
            self._metrics.outcomes_lost.inc(len(left))
            self._log.error("outcomes.lost", rows=len(left))

    async def _write(self, items: Sequence[Claimed | Change]) -> Sequence[bool | Exception | Later]:
        """If the statement fails, markers fail, so that their messages are not sent; outcomes are written LATER."""
        marks = [it for it in items if isinstance(it, Claimed)]
        changes = [it for it in items if isinstance(it, Change)]
        try:
            async with self._database.statement() as transaction:
                marked, changed = await deliveries.write(transaction, marks, changes, lease=self._data)
                if any(it.state in (DeliveryState.FAILED, DeliveryState.EXPIRED) for it in changes):
                    self._outbox.wake_after(transaction)
        except DatabaseUnavailable as error:
            self._gate.trip(error)
            return [error if isinstance(it, Claimed) else LATER for it in items]
        except DBAPIError as error:
            if len(items) > 1:
                # One of them is at fault, and only that one may fail. Each is answered as soon as it is written: the
                # server's time for a message runs from the commit of its marker.
                raise SplitGroup from error
            return [self._refused(items[0], error)]
        await self._keep_refusals(changes, {it.id for it in changed})
        self._metrics.resends.inc(sum(row.was_unknown and row.id in marked for row in marks))
        self._note(changes, changed)
        done = marked.union(it.id for it in changed)
        return [it.id in done for it in items]

    async def _keep_refusals(self, changes: Sequence[Change], written: Collection[int]) -> None:
        """Keeps what refusals are judged by. One that cannot be kept is tried again an hour after it was met."""
        met = [it for it in changes if it.words and it.id in written]
        if not met:
            return
        try:
            async with self._database.statement() as transaction:
                await refusals.record(transaction, met)
        except (DatabaseUnavailable, DBAPIError) as error:
            self._log.warning("refusals.not_kept", rows=len(met), reason=str(error).partition("\n")[0])

    def _refused(self, item: Claimed | Change, error: DBAPIError) -> Exception | Later:
        if isinstance(item, Claimed):
            return error
        if is_passing(error):
            self._log.warning("outcome.waits", delivery_id=item.id, reason=str(error.orig).partition("\n")[0])
            return LATER
        # What PostgreSQL refuses to store stays unwritten: the lease runs out, and a sweeper judges the row.
        self.forget([item])
        return error

    async def _pause(self) -> None:
        if self._gate.is_open:
            await asyncio.sleep(PAUSE)
        else:
            await first_of(self._gate.wait_open(), timeout=PAUSE)

    def _note(self, changes: Sequence[Change], written: Sequence[deliveries.Changed]) -> None:
        self.forget(changes)
        for it in written:
            self._metrics.changed(it.kind, it.state)
        kept = {it.id for it in written}
        # A row that was not tried has no outcome to lose: a sweeper has taken it, or its mailing was cancelled.
        lost = sum(it.id not in kept and not it.untried for it in changes)
        if lost:
            self._metrics.outcomes_lost.inc(lost)
            self._log.warning("outcomes.too_late", rows=lost)
        if any(it.ended for it in written):
            self._on_ended()
