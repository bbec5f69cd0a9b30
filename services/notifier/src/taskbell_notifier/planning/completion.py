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
        while await self.complete_one():
            pass
        await first_of(stop.wait(), timeout=SETTLE)
        return POLL

    async def complete_one(self) -> bool:
        """Completes one mailing that is over; returns False if there is none.

        Raises:
            DatabaseUnavailable: nothing took effect.
        """
        async with self._database.transaction() as transaction:
            over = await mailings.complete_one(transaction)
            if over is None:
                return False
            # The message_id is made of the mailing's id, so that even a second completion would publish nothing new.
            message_id = f"mailing.completed.{over.mailing_id}"
            await self._outbox.add(transaction, [OutboxMessage(over, message_id=message_id)])
        self._log.info("mailing.completed", mailing_id=over.mailing_id, kind=over.kind, **over.counts)
        return True
