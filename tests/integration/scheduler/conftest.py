"""Schedulers on a real database whose clock the tests set."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest_asyncio
from tests.support.probes import ping
from tests.support.virtual_clock import VirtualClock

from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.metrics import Metrics
from taskbell.outbox import Outbox
from taskbell.settings import DatabaseAccess, load
from taskbell_scheduler.metrics import SchedulerMetrics
from taskbell_scheduler.scheduler import Scheduler
from taskbell_scheduler.schedules import parse_schedules


class SchedulerHarness:
    """One database, its clock, and any number of schedulers."""

    def __init__(self, url: str, database: Database, clock: VirtualClock) -> None:
        self.url = url
        self.database = database
        self._clock = clock

    async def at(self, moment: str, *, runs: bool = False) -> None:
        """It is that time now, and unless it runs stays so: UTC where it names no offset."""
        await self._clock.set(utc(moment), runs=runs)

    def scheduler(
        self, *entries: str, timezone: str = "UTC", health: Health | None = None, look: float = 0
    ) -> Scheduler:
        """A scheduler with its own file of these entries; unless told otherwise it looks at the table each turn."""
        health = health or Health()
        schedules = parse_schedules("\n".join(entries), origin="test", default_zone=timezone)
        return Scheduler(
            schedules,
            timezone,
            database=self.database,
            outbox=Outbox("scheduler"),
            gate=Gate("postgresql", partial(ping, self.database), health),
            health=health,
            metrics=SchedulerMetrics(Metrics()),
            look=look,
        )

    async def turn(self, *schedulers: Scheduler) -> None:
        """One turn of each, all at once."""
        await asyncio.gather(*(scheduler.turn(asyncio.Event()) for scheduler in schedulers))

    async def sql(self, statement: str, **parameters: Any) -> Sequence[Any]:
        """Runs one statement, as a person would; the rows where it has any."""
        async with self.database.transaction() as transaction:
            await transaction.execute("SET LOCAL search_path = public")
            result = await transaction.execute(statement, parameters)
            return result.all() if result.returns_rows else ()

    async def occurrences(self) -> list[tuple[str, str, str, str]]:
        """Schedule, zone, key and status of all that is recorded, by time."""
        rows = await self.sql("SELECT schedule, zone, key, status FROM taskbell.occurrence ORDER BY at, schedule, zone")
        return [tuple(row) for row in rows]

    async def statuses(self) -> dict[str, str]:
        """Key and status of all that is recorded, for tests of a single schedule in a single zone."""
        return {key: status for _, _, key, status in await self.occurrences()}

    async def messages(self) -> list[tuple[str, str]]:
        """Routing key and body of everything that is to be published, in order."""
        rows = await self.sql("SELECT routing_key, body::text FROM taskbell.outbox ORDER BY id")
        return [tuple(row) for row in rows]

    async def add_user(self, timezone: str | None, *, active: bool = True) -> int:
        """A user of the web app, by their id."""
        rows = await self.sql(
            "INSERT INTO public.users (name, email, timezone, is_active) VALUES ('A', 'a@example.org', :zone, :active)"
            " RETURNING id",
            zone=timezone,
            active=active,
        )
        user: int = rows[0].id
        return user


def entry(
    name: str, cron: str, publish: str = "reminder.due", *, timezone: str | None = None, catch_up: str = "6h"
) -> str:
    """An entry of a schedules file."""
    zone = f'timezone = "{timezone}"\n' if timezone else ""
    return f'[[schedule]]\nname = "{name}"\ncron = "{cron}"\n{zone}publish = "{publish}"\ncatch_up = "{catch_up}"\n'


MINUTELY = entry("tick", "* * * * *", "maintenance.generate_task_report", catch_up="1h")


def utc(moment: str) -> datetime:
    """That moment, in UTC where it names no offset."""
    parsed = datetime.fromisoformat(moment)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


@pytest_asyncio.fixture
async def harness(database_url: str) -> AsyncIterator[SchedulerHarness]:
    clock = VirtualClock(database_url)
    await clock.install()
    database = Database.connect(load(DatabaseAccess, database_url=database_url), name="test scheduler")
    try:
        yield SchedulerHarness(database_url, database, clock)
    finally:
        await database.close()
        await clock.close()
