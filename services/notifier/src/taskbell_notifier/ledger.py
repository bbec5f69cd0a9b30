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
from taskbell_notifier.group_commit import GroupCommit
from taskbell_notifier.lifecycle import Change, Claimed, State
from taskbell_notifier.measures import Measures
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
        self._markers: GroupCommit[Claimed, bool] = GroupCommit(self._write_markers)
        self._outcomes: GroupCommit[Change, bool] = GroupCommit(self._write_outcomes)
        self._log = logger("ledger")

    async def claim(self, ids: Sequence[int]) -> Sequence[Claimed]:
        """Takes those of the rows that may be sent now; their leases are renewed until their outcome is written.

        Raises:
            DatabaseUnavailable: nothing was taken, as far as we know; what was after all is left to its lease.
        """
        async with self._database.transaction() as tx:
            rows = await deliveries.claim(tx, ids, lease=self._lease, domain=self._domain, hold=self._hold)
        for row in rows:
            self._held[row.id] = row
        return rows

    async def mark_data(self, row: Claimed) -> bool:
        """Commits the data marker; only where this returns True may the first byte of the message go.

        Raises:
            DatabaseUnavailable: it is not known to be committed: the message must not go.
        """
        return await self._markers.add(row)

    def record(self, change: Change) -> "asyncio.Future[bool]":
        """Has an outcome written, shielded from whatever happens to the caller.

        The answer says whether it was: False where the claim had been lost.
        """
        return self._outcomes.add(change)

    def forget(self, changes: Iterable[Change]) -> None:
        """No longer renews the leases that these ended; a row claimed again since, after a stall, is still held."""
        for change in changes:
            held = self._held.get(change.id)
            if held is not None and held.claim == change.claim:
                del self._held[change.id]

    async def run(self, stop: asyncio.Event) -> None:
        """Renews leases until `stop`. Who still waits then is returned at once, and needs no more of them."""
        while not stop.is_set():
            await first_of(stop.wait(), timeout=self._lease.total_seconds() / RENEWALS)
            if not self._held or stop.is_set():
                continue
            async with self._gate.attempt(self.name, stop), self._database.transaction() as tx:
                await deliveries.renew(tx, self._held.values(), lease=self._lease)
            await first_of(self._gate.wait_open(), stop.wait())

    async def close(self, timeout: float = 2.0) -> None:
        """Writes what is left; outcomes that cannot be written are lost, and their rows the sweeper's."""
        left = await self._outcomes.finish(timeout)
        if left:
            self._measures.outcomes_lost.inc(left)
            self._log.error("outcomes.lost", rows=left)

    async def _write_markers(self, rows: Sequence[Claimed]) -> Sequence[bool]:
        try:
            async with self._database.transaction() as tx:
                marked = await deliveries.mark_data(tx, rows, lease=self._data)
        except DatabaseUnavailable as error:
            self._gate.trip(error)
            raise
        self._measures.resends.inc(sum(row.suspect and row.id in marked for row in rows))
        return [row.id in marked for row in rows]

    async def _write_outcomes(self, changes: Sequence[Change]) -> Sequence[bool]:
        while True:
            try:
                async with self._database.transaction() as tx:
                    written = await deliveries.change(tx, changes)
                    if any(it.state in (State.FAILED, State.EXPIRED) for it in changes):
                        self._outbox.wake_after(tx)
                break
            except DatabaseUnavailable as error:
                self._gate.trip(error)
                await first_of(self._gate.wait_open(), timeout=PAUSE)
            except DBAPIError as error:
                if is_passing(error):
                    self._log.warning("outcomes.wait", rows=len(changes), reason=str(error.orig).partition("\n")[0])
                    await asyncio.sleep(PAUSE)
                    continue
                if len(changes) == 1:
                    # What PostgreSQL refuses to store cannot be mended here: its lease runs out, a sweeper judges.
                    self.forget(changes)
                    raise
                # One of them is at fault, and it alone shall fail.
                return [done for change in changes for done in await self._write_outcomes([change])]
        self._note(changes, written)
        done = {it.id for it in written}
        return [change.id in done for change in changes]

    def _note(self, changes: Sequence[Change], written: Sequence[deliveries.Changed]) -> None:
        self.forget(changes)
        for it in written:
            self._measures.changed(it.kind, it.state)
        if len(written) < len(changes):
            self._measures.outcomes_lost.inc(len(changes) - len(written))
            self._log.warning("outcomes.too_late", rows=len(changes) - len(written))
        if any(it.ended for it in written):
            self._on_ended()
