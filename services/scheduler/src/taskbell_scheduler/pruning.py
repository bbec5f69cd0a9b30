"""Deletes old occurrences and published messages, in small batches."""

import asyncio

from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell_scheduler.repository import SchedulerRepository

KEPT_DAYS = 90
"""Longer than any catch-up window, so that no occurrence is deleted that could still be caught up with."""

EVERY = 3600.0
"""Seconds between rounds."""

BATCH = 1000
"""Rows of each table that are deleted in one transaction, at most."""


class Pruner:
    """Deletes occurrences and published messages after 90 days."""

    def __init__(self, database: Database, *, gate: Gate) -> None:
        self.name = "pruner"
        self._database = database
        self._repository = SchedulerRepository(database)
        self._gate = gate
        self._log = logger("pruner")

    async def run(self, stop: asyncio.Event) -> None:
        """Prunes once an hour until `stop`."""

        async def work() -> float:
            await self._round(stop)
            return EVERY

        await self._gate.rounds(self.name, work, stop)

    async def _round(self, stop: asyncio.Event) -> None:
        deleted = BATCH
        while deleted == BATCH and not stop.is_set():
            async with self._database.transaction() as transaction:
                deleted = await self._repository.prune(transaction, days=KEPT_DAYS, limit=BATCH)
            if deleted:
                self._log.info("occurrences.pruned", rows=deleted)
