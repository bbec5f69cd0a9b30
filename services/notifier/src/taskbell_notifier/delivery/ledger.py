"""The ledger while mails are being sent: claims, leases, data markers and outcomes, committed together.

A marker that cannot be committed means that its mail is not sent. An outcome that cannot be committed is tried again
for as long as this process lives: it is the server's word, and without it the mail's outcome would be unknown.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from taskbell.concurrency import first_of
from taskbell.database import Database, is_passing
from taskbell.errors import DatabaseUnavailable
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell.outbox import Outbox
from taskbell_notifier.delivery.group_commit import LATER, Apart, GroupCommit, Later
from taskbell_notifier.lifecycle import Change, Claimed, DeliveryState
from taskbell_notifier.metrics import Measures
from taskbell_notifier.repository import deliveries

SLACK = timedelta(seconds=60)
"""Beyond the time that the server may take over a message: for the outcome to be committed."""

RENEWALS = 3
"""Renewals within one lease: two may fail before the third is too late."""

PAUSE = 1.0
"""Seconds between tries to write an outcome, at most; while the service stops nobody opens the gate."""


class Ledger:
    """What senders write.

    Args:
        lease: how long a claim lasts unrenewed.
        data: how long the server may take from the first byte of a message to its reply.
        domain: of the sender, for Message-IDs.
        hold: rows of unknown outcome are not sent again.
        sessions: tells how many mails are being handed over, each of which will ask for its marker.
        on_ended: called when rows have ended.
    """

    def __init__(
        self,
        database: Database,
        *,
        gate: Gate,
        outbox: Outbox,
        measures: Measures,
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
        self._measures = measures
        self._lease = lease
        self._data = data + SLACK
        self._domain = domain
        self._hold = hold
        self._on_ended = on_ended
        self._held: dict[int, Claimed] = {}
        # A marker holds up its SMTP session; outcomes hold up nobody, and go along.
        self._writes: GroupCommit[Claimed | Change, bool] = GroupCommit(
            self._write, pause=self._pause, complete=lambda asked: asked >= sessions()
        )
        self._log = logger("ledger")

    async def claim(self, ids: Sequence[int]) -> Sequence[Claimed]:
        """Takes those of the rows that may be sent now; their leases are renewed until their outcome is written.

        Raises:
            DatabaseUnavailable: nothing was taken, as far as we know; what was after all is left to its lease.
        """
        async with self._database.statement() as tx:
            rows = await deliveries.claim(tx, ids, lease=self._lease, domain=self._domain, hold=self._hold)
        for row in rows:
            self._held[row.id] = row
        return rows

    async def passed_over(self, ids: Sequence[int]) -> Sequence[int]:
        """Those of the rows that may be sent now, and were left out by a claim only because somebody had them locked.

        Raises:
            DatabaseUnavailable: PostgreSQL is away.
        """
        async with self._database.statement() as tx:
            return await deliveries.takable(tx, ids, hold=self._hold)

    async def mark_data(self, row: Claimed) -> bool:
        """Commits the data marker; only where this returns True may the first byte of the message go.

        Raises:
            DatabaseUnavailable: it is not known to be committed: the message must not go.
        """
        return await self._writes.ask(row)

    def record(self, change: Change) -> "asyncio.Future[bool]":
        """Has an outcome written, shielded from whatever happens to the caller.

        The answer says whether it was: False where the claim had been lost.
        """
        return self._writes.add(change)

    def forget(self, changes: Iterable[Change]) -> None:
        """No longer renews the leases that these ended; a row claimed again since, after a stall, is still held."""
        for change in changes:
            held = self._held.get(change.id)
            if held is not None and held.claim == change.claim:
                del self._held[change.id]

    async def run(self, stop: asyncio.Event) -> None:
        """Renews leases until `stop`. Who still waits then is returned at once, and needs no more of them."""
        await self._gate.rounds(self.name, self._renew, stop)

    async def _renew(self) -> float:
        if self._held:
            async with self._database.transaction() as tx:
                await deliveries.renew(tx, self._held.values(), lease=self._lease)
        return self._lease.total_seconds() / RENEWALS

    async def close(self, timeout: float = 2.0) -> None:
        """Writes what is left; outcomes that cannot be written are lost, and their rows the sweeper's."""
        left = [it for it in await self._writes.finish(timeout) if isinstance(it, Change)]
        if left:
            self._measures.outcomes_lost.inc(len(left))
            self._log.error("outcomes.lost", rows=len(left))

    async def _write(self, items: Sequence[Claimed | Change]) -> Sequence[bool | Exception | Later]:
        """Markers fail with their statement, and their messages do not go; outcomes are written LATER."""
        marks = [it for it in items if isinstance(it, Claimed)]
        changes = [it for it in items if isinstance(it, Change)]
        try:
            async with self._database.statement() as tx:
                marked, changed = await deliveries.write(tx, marks, changes, lease=self._data)
                if any(it.state in (DeliveryState.FAILED, DeliveryState.EXPIRED) for it in changes):
                    self._outbox.wake_after(tx)
        except DatabaseUnavailable as error:
            self._gate.trip(error)
            return [error if isinstance(it, Claimed) else LATER for it in items]
        except DBAPIError as error:
            if len(items) > 1:
                # One of them is at fault, and it alone shall fail. None may wait for the others once it is written: a
                # marker's time runs from its commit.
                raise Apart from error
            return [self._refused(items[0], error)]
        self._measures.resends.inc(sum(row.suspect and row.id in marked for row in marks))
        self._note(changes, changed)
        done = marked.union(it.id for it in changed)
        return [it.id in done for it in items]

    def _refused(self, item: Claimed | Change, error: DBAPIError) -> Exception | Later:
        if isinstance(item, Claimed):
            return error
        if is_passing(error):
            self._log.warning("outcome.waits", delivery_id=item.id, reason=str(error.orig).partition("\n")[0])
            return LATER
        # What PostgreSQL refuses to store cannot be mended here: its lease runs out, a sweeper judges.
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
            self._measures.changed(it.kind, it.state)
        if len(written) < len(changes):
            self._measures.outcomes_lost.inc(len(changes) - len(written))
            self._log.warning("outcomes.too_late", rows=len(changes) - len(written))
        if any(it.ended for it in written):
            self._on_ended()
