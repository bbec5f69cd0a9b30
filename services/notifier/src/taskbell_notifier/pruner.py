"""Deletes what is long over, in bounded batches: the ledger must not grow for ever."""

import asyncio
from datetime import timedelta

from taskbell.concurrency import first_of
from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell_notifier.repository import deliveries, mailings, messages

AGE = timedelta(days=90)
BATCH = 1_000
PERIOD = 3_600.0
"""Seconds between rounds."""

BREATH = 0.05
"""Seconds between batches, so that a long round disturbs nobody."""


class Pruner:
    """Prunes deliveries, mailings, and the notifier's rows of outbox and commands, 90 days after their end."""

    def __init__(self, database: Database, *, gate: Gate) -> None:
        self.name = "pruner"
        self._database = database
        self._gate = gate
        self._log = logger("pruner")

    async def run(self, stop: asyncio.Event) -> None:
        """Prunes at the start and every hour, until `stop`."""

        async def work() -> float:
            while not stop.is_set() and await self.prune():
                await first_of(stop.wait(), timeout=BREATH)
            return PERIOD

        await self._gate.rounds(self.name, work, stop)

    async def prune(self) -> bool:
        """One batch of each; True where there may be more.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer.
        """
        rows = 0
        more = False
        # Deliveries first: a mailing goes once it has none left.
        for prune in (deliveries.prune, mailings.prune, messages.prune_outbox, messages.prune_commands):
            async with self._database.transaction() as tx:
                pruned = await prune(tx, age=AGE, limit=BATCH)
            rows += pruned
            more = more or pruned == BATCH
        if rows:
            self._log.info("ledger.pruned", rows=rows)
        return more
