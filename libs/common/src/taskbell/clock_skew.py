"""How far this machine's clock is from the database's: what is persisted uses the one, words in mails the other."""

import asyncio
import math
from datetime import datetime

from taskbell.clock import Clock
from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.logs import logger
from taskbell.metrics import Metrics

POLL = 60.0
"""Seconds between measurements."""

TOLERATED = 5.0
"""Seconds of difference that nobody has to be told of."""

PART = "clock"

_NOW = "SELECT pg_catalog.clock_timestamp()"


class ClockSkew:
    """Measures the difference at the start and once a minute; a large one is logged, and named on `/readyz`."""

    def __init__(self, database: Database, gate: Gate, clock: Clock, *, health: Health, metrics: Metrics) -> None:
        self.name = "clock skew"
        self._database = database
        self._gate = gate
        self._clock = clock
        self._health = health
        self._metrics = metrics
        self._log = logger("clock")

    async def run(self, stop: asyncio.Event) -> None:
        """Measures until `stop`."""
        await self._gate.rounds(self.name, self._round, stop)

    async def _round(self) -> float:
        self.report(await self.measure())
        return POLL

    async def measure(self) -> float:
        """Seconds by which this machine's clock is ahead of the database's; negative if it is behind.

        What the round trip leaves uncertain counts in the clock's favour.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer.
        """
        async with self._database.statement() as transaction:
            before = self._clock.now()
            there: datetime = await transaction.value(_NOW)
            after = self._clock.now()
        ahead, behind = (before - there).total_seconds(), (after - there).total_seconds()
        if behind < 0:
            return behind
        return max(ahead, 0.0)

    def report(self, skew: float) -> None:
        """Tells of the difference: as a metric always; in words if it is large."""
        self._metrics.clock_skew.set(skew)
        if abs(skew) <= TOLERATED:
            self._health.set(PART, "ready")
            return
        # Whole seconds, so that the same clock is told of once.
        seconds = math.floor(abs(skew))
        way = "ahead of" if skew > 0 else "behind"
        words = f"this machine's clock is {seconds} s {way} the database's: set both by NTP"
        self._health.set(PART, "degraded", words)
        self._log.warning("clock.skewed", seconds=round(skew, 1), reason=words)
