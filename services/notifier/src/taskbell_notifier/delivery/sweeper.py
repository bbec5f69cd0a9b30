"""Looks after rows that wait: retries fallen due, claims cut off, mails too late, messages lost. One in each notifier.

It reads rows whose `due_at` has come, lets `lifecycle.judge` say what to do about each, and writes that in sets.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

from taskbell.contracts import SendBatch
from taskbell.database import Database, Transaction
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell.outbox import Outbox, OutboxMessage
from taskbell_notifier.lifecycle import IN_QUEUE, Change, DeliveryState, Enqueue, Postpone, SweeperView, judge
from taskbell_notifier.metrics import Measures
from taskbell_notifier.repository import deliveries
from taskbell_notifier.repository.planning import BATCH

POLL = 2.0
"""Seconds between sweeps that found little."""

LIMIT = 1_000
"""Rows in one transaction."""

BACKLOG = 100
"""Messages that may wait for the broker before rows are no longer queued again: theirs may be among them."""

IDLE = 5.0
"""Seconds without a message after which the queue counts as empty."""


class Sweeper:
    """Sweeps.

    Args:
        sending: the gate that is closed while sending is paused.
        idle: tells whether this process has had nothing to send for so many seconds.
        lease: how long PostgreSQL must have answered before a lease that ran out is held against its process.
        hold: rows of unknown outcome are not sent again.
        on_ended: called when rows have ended.
    """

    def __init__(
        self,
        database: Database,
        *,
        gate: Gate,
        sending: Gate,
        outbox: Outbox,
        measures: Measures,
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
        self._measures = measures
        self._idle = idle
        self._lease = lease.total_seconds()
        self._hold = hold
        self._on_ended = on_ended
        self._log = logger("sweeper")

    async def run(self, stop: asyncio.Event) -> None:
        """Sweeps until `stop`."""
        await self._gate.rounds(self.name, self._round, stop)

    async def _round(self) -> float:
        return 0.0 if await self.sweep() else POLL

    async def sweep(self) -> bool:
        """One transaction; True where it did something, so that there may be more to do at once.

        Raises:
            DatabaseUnavailable: nothing took effect.
        """
        async with self._database.transaction() as tx:
            now, rows = await deliveries.due_rows(tx, LIMIT)
            may_judge = self._may_judge()
            if now is None:
                return False
            may_queue = self._sending.is_open and await deliveries.unpublished(tx, BACKLOG) < BACKLOG
            view = SweeperView(now, may_judge, may_queue, self._idle(IDLE), self._hold)
            found = [judge(row, view) for row in rows]
            changes = [it for it in found if isinstance(it, Change)]
            looks = [it for it in found if isinstance(it, Postpone)]
            queues = [it for it in found if isinstance(it, Enqueue)]
            if looks:
                await deliveries.look_later(tx, looks)
            if queues:
                await self._queue(tx, queues)
            written = await deliveries.change(tx, changes) if changes else []
            if changes:
                self._outbox.wake_after(tx)
        self._count(looks, queues, written)
        return bool(queues or changes) or len(rows) >= LIMIT

    def _may_judge(self) -> bool:
        """Has PostgreSQL answered for one full lease? Whoever lives has renewed its own by then."""
        since = self._gate.open_since
        return since is not None and asyncio.get_running_loop().time() - since >= self._lease

    async def _queue(self, tx: Transaction, queues: Sequence[Enqueue]) -> None:
        await deliveries.queued(tx, [it.id for it in queues], wait=IN_QUEUE)
        await self._outbox.add(tx, [OutboxMessage(SendBatch(delivery_ids=ids)) for ids in _batches(queues)])

    def _count(
        self, looks: Sequence[Postpone], queues: Sequence[Enqueue], written: Sequence[deliveries.Changed]
    ) -> None:
        self._measures.swept.labels("put off").inc(len(looks))
        self._measures.swept.labels("queued").inc(len(queues))
        for it in written:
            self._measures.swept.labels("unknown" if it.state is DeliveryState.UNKNOWN else "changed").inc()
            self._measures.changed(it.kind, it.state)
        if queues or written:
            self._log.info("ledger.swept", queued=len(queues), changed=len(written))
        if any(it.ended for it in written):
            self._on_ended()


def _batches(queues: Sequence[Enqueue]) -> list[tuple[int, ...]]:
    """Ids for messages of at most BATCH, each of one mailing: what is loaded for them is alike."""
    batches: list[tuple[int, ...]] = [(it.id,) for it in queues if it.alone]
    by_mailing: dict[int, list[int]] = {}
    for it in queues:
        if not it.alone:
            by_mailing.setdefault(it.mailing_id, []).append(it.id)
    for ids in by_mailing.values():
        batches += [tuple(ids[start : start + BATCH]) for start in range(0, len(ids), BATCH)]
    return batches
