"""The sweeper: handles rows that are due, such as retries, claims cut off, mails too late, and messages lost.

Each notifier has one. It reads rows whose `due_at` has come, asks `lifecycle.judge` what to do about each, and writes
that in sets.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

from taskbell.contracts import SendBatch
from taskbell.database import Database, Transaction
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell.outbox import Outbox, OutboxMessage
from taskbell_notifier.lifecycle import (
    IN_QUEUE,
    Change,
    DeliveryState,
    Enqueue,
    OpenRow,
    Phase,
    Postpone,
    Stretch,
    SweeperView,
    judge,
)
from taskbell_notifier.metrics import NotifierMetrics
from taskbell_notifier.repository import answering, deliveries
from taskbell_notifier.repository.planning import BATCH

POLL = 2.0
"""Seconds between sweeps that found little."""

LIMIT = 1_000
"""Rows in one transaction."""

BACKLOG = 100
"""While more messages than this wait for the broker, no row is queued again: its message may be one of them."""

IDLE = 5.0
"""Seconds without a batch after which the queue counts as empty."""


TOGETHER = timedelta(seconds=10)
"""PostgreSQL counts as answering between two observations that are no further apart. A notifier starts anew in less; an
outage that is shorter leaves the outcomes most of their lease. With short leases it is a quarter of one, but two
rounds."""

OBSERVED = 1.0
"""Shortest time between two observations that PostgreSQL answers, in seconds."""

EXPIRED_POLL = 5.0
"""Shortest time between searches for leases that ran out, in seconds. Rows are due by when their message should have
been handled, so a row whose process was killed may be due only much later."""

SHARE = 100
"""Such a search reads all open rows; it may take one part in so many of a sweeper's time."""


class Sweeper:
    """Sweeps the ledger.

    Args:
        sending: the gate that is closed while sending is paused.
        idle: given seconds, returns True if this process has had nothing to send for so long.
        lease: how long PostgreSQL must have been seen to answer before a process counts as dead whose lease ran out in
            the phase data.
        hold: True if rows of unknown outcome are not sent again.
        on_ended: called when rows have ended.
    """

    def __init__(
        self,
        database: Database,
        *,
        gate: Gate,
        sending: Gate,
        outbox: Outbox,
        metrics: NotifierMetrics,
        idle: Callable[[float], bool],
        lease: timedelta,
        hold: bool,
        on_ended: Callable[[], None],
    ) -> None:
        self.name = "sweeper"
        self._database = database
        self._gate = gate
        self._sending = sending
        self._outbox = outbox
        self._metrics = metrics
        self._idle = idle
        self._lease = lease
        self._together = min(TOGETHER, max(lease / 4, timedelta(seconds=2 * POLL)))
        self._hold = hold
        self._on_ended = on_ended
        self._observed_at: float | None = None
        self._searched_at: float | None = None
        self._search_pause = 0.0
        self._log = logger("sweeper")

    async def run(self, stop: asyncio.Event) -> None:
        """Sweeps until `stop`."""
        await self._gate.rounds(self.name, self._round, stop)

    async def _round(self) -> float:
        await self.observe()
        await self.search()
        return 0.0 if await self.sweep() else POLL

    async def observe(self) -> None:
        """Records that PostgreSQL answers, unless it was done a moment ago; whoever judges later counts on it.

        Raises:
            DatabaseUnavailable: it does not.
        """
        now = asyncio.get_running_loop().time()
        if self._observed_at is not None and now - self._observed_at < OBSERVED:
            return
        opened = self._gate.open_since
        unbroken = self._observed_at is None or (opened is not None and opened <= self._observed_at)
        async with self._database.statement() as transaction:
            await answering.observe(transaction, together=self._together, unbroken=unbroken)
        self._observed_at = now

    async def search(self) -> None:
        """Makes rows due whose lease has run out, unless it was done a moment ago.

        Raises:
            DatabaseUnavailable: nothing took effect.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        if self._searched_at is not None and began - self._searched_at < self._search_pause:
            return
        async with self._database.statement() as transaction:
            found = await deliveries.expired_leases_due(transaction, LIMIT)
        self._searched_at = loop.time()
        self._search_pause = max(EXPIRED_POLL, SHARE * (self._searched_at - began)) if found < LIMIT else 0.0

    async def sweep(self) -> bool:
        """One transaction; returns True if there may be more to do at once.

        Raises:
            DatabaseUnavailable: nothing took effect.
        """
        async with self._database.transaction() as transaction:
            now, rows = await deliveries.due_rows(transaction, LIMIT)
            if now is None:
                return False
            seen = await self._answering(transaction, rows)
            may_queue = self._sending.is_open and await deliveries.unpublished(transaction, BACKLOG) < BACKLOG
            view = SweeperView(now, self._lease, seen, may_queue, self._idle(IDLE), self._hold)
            found = [judge(row, view) for row in rows]
            changes = [it for it in found if isinstance(it, Change)]
            postponed = [it for it in found if isinstance(it, Postpone)]
            queued = [it for it in found if isinstance(it, Enqueue)]
            if postponed:
                await deliveries.postpone(transaction, postponed)
            if queued:
                await self._queue(transaction, queued)
            written = await deliveries.change(transaction, changes) if changes else []
            if changes:
                self._outbox.wake_after(transaction)
        self._count(postponed, queued, written)
        return bool(queued or changes) or len(rows) >= LIMIT

    async def _answering(self, transaction: Transaction, rows: Sequence[OpenRow]) -> Sequence[Stretch]:
        """When PostgreSQL was seen to answer; it is read only if one of the rows is judged by it."""
        if any(row.state is DeliveryState.SENDING and row.phase is Phase.DATA for row in rows):
            return await answering.stretches(transaction)
        return ()

    async def _queue(self, transaction: Transaction, queued: Sequence[Enqueue]) -> None:
        await deliveries.queued(transaction, [it.id for it in queued], wait=IN_QUEUE)
        await self._outbox.add(transaction, [OutboxMessage(SendBatch(delivery_ids=ids)) for ids in _batches(queued)])

    def _count(
        self, postponed: Sequence[Postpone], queued: Sequence[Enqueue], written: Sequence[deliveries.Changed]
    ) -> None:
        self._metrics.swept.labels("put off").inc(len(postponed))
        self._metrics.swept.labels("queued").inc(len(queued))
        for it in written:
            self._metrics.swept.labels("unknown" if it.state is DeliveryState.UNKNOWN else "changed").inc()
            self._metrics.changed(it.kind, it.state)
        if queued or written:
            self._log.info("ledger.swept", queued=len(queued), changed=len(written))
        if any(it.ended for it in written):
            self._on_ended()


def _batches(queued: Sequence[Enqueue]) -> list[tuple[int, ...]]:
    """Ids for messages of at most BATCH rows, each of one mailing, because their contents are loaded together."""
    batches: list[tuple[int, ...]] = [(it.id,) for it in queued if it.alone]
    by_mailing: dict[int, list[int]] = {}
    for it in queued:
        if not it.alone:
            by_mailing.setdefault(it.mailing_id, []).append(it.id)
    for ids in by_mailing.values():
        batches += [tuple(ids[start : start + BATCH]) for start in range(0, len(ids), BATCH)]
    return batches
