"""Completes a mailing when its last mail has ended, and publishes that."""

import asyncio
from functools import partial

from taskbell.concurrency import first_of
from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell.outbox import Outbox, OutboxMessage
from taskbell_notifier.repository import mailings

POLL = 5.0
"""Seconds between searches for mailings whose last mail another process ended."""

LIMIT = 500
"""Mailings in one transaction: each search looks at all open mailings, and every instant mail is one of them."""

SETTLE = 0.2
"""Shortest time between two searches in seconds, however many mails end in between."""


class Completion:
    """Completes mailings, each once, with `mailing.completed` in the same transaction."""

    def __init__(self, database: Database, *, gate: Gate, outbox: Outbox) -> None:
        self.name = "completion"
        self.wanted = asyncio.Event()
        """Set it when a mailing may be over."""
        self._database = database
        self._gate = gate
        self._outbox = outbox
        self._log = logger("completion")

    async def run(self, stop: asyncio.Event) -> None:
        """Completes until `stop`."""
        await self._gate.rounds(self.name, partial(self._round, stop), stop, wake=self.wanted)

    async def _round(self, stop: asyncio.Event) -> float:
        completed = await self.complete()
        await first_of(stop.wait(), timeout=SETTLE)
        return 0.0 if completed else POLL

    async def complete(self) -> int:
        """Completes mailings that are over, LIMIT at most; returns how many.

        Raises:
            DatabaseUnavailable: nothing took effect.
        """
        async with self._database.transaction() as transaction:
            events = await mailings.complete(transaction, limit=LIMIT)
            # Each completes once by its row, which is locked. So the event's message_id can be random, and nobody can
            # put another message in its place beforehand.
            await self._outbox.add(transaction, [OutboxMessage(it) for it in events])
        for it in events:
            self._log.info("mailing.completed", mailing_id=it.mailing_id, kind=it.kind, **it.counts)
        return len(events)
