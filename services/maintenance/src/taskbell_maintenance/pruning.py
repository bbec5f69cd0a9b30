"""Prunes this service's own ended rows, a bounded batch at a time; never a report, or an archived task."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell_maintenance.repository.own_rows import BATCH, OwnRows

EVERY = 3600.0
"""Seconds between two looks."""

KEPT = timedelta(days=90)
"""How long an outcome or a published message is kept."""

KEPT_OF_APP = timedelta(days=7)
"""How long a published message of the web app is kept; there may be many."""


class Pruner:
    """Deletes outcomes of commands and published messages when they have been kept long enough. A Part."""

    def __init__(self, rows: OwnRows, gate: Gate) -> None:
        self.name = "pruner"
        self._gate = gate
        self._log = logger("pruner")
        self._kinds: dict[str, Callable[[], Awaitable[int]]] = {
            "commands": partial(rows.prune_commands, KEPT),
            "outbox": partial(rows.prune_outbox, "maintenance", KEPT),
            "outbox of the app": partial(rows.prune_outbox, "app", KEPT_OF_APP),
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Prunes at the start and every hour, until `stop`."""

        async def work() -> float:
            await self.prune(stop)
            return EVERY

        await self._gate.rounds(self.name, work, stop)

    async def prune(self, stop: asyncio.Event) -> None:
        """Deletes what is old enough, batch by batch, unless the service stops in between."""
        for kind, some in self._kinds.items():
            pruned, full = 0, True
            while full and not stop.is_set():
                number = await some()
                pruned += number
                full = number == BATCH
            if pruned:
                self._log.info("pruner.pruned", kind=kind, rows=pruned)
