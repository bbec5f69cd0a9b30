"""The loop: it wakes when something is due, and goes on after PostgreSQL was away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from tests.integration.scheduler.conftest import MINUTELY, SchedulerHarness
from tests.support.probes import ping
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

from taskbell.database import Database
from taskbell.errors import DatabaseUnavailable
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.metrics import Metrics
from taskbell.outbox import Outbox
from taskbell.settings import DatabaseAccess, load
from taskbell_scheduler.metrics import SchedulerMetrics
from taskbell_scheduler.repository import scheduling
from taskbell_scheduler.scheduler import Scheduler
from taskbell_scheduler.schedules import parse_schedules


@asynccontextmanager
async def running(database: Database, look: float = 3600, outbox: Outbox | None = None) -> AsyncIterator[Health]:
    """A scheduler's loop with its gate; yields its health."""
    health, stop = Health(), asyncio.Event()
    gate = Gate("postgresql", partial(ping, database), health)
    scheduler = Scheduler(
        parse_schedules(MINUTELY, origin="test", default_zone="UTC"),
        "UTC",
        database=database,
        outbox=outbox or Outbox("scheduler"),
        gate=gate,
        health=health,
        metrics=SchedulerMetrics(Metrics()),
        look=look,
    )
    parts = [asyncio.create_task(part.run(stop)) for part in (gate, scheduler)]
    try:
        yield health
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*parts), timeout=10)


async def test_it_wakes_at_the_moment_by_the_databases_clock(harness: SchedulerHarness) -> None:
    outbox = Outbox("scheduler")
    await harness.at("2026-11-20T07:59:58.500", runs=True)
    async with running(harness.database, outbox=outbox):  # looks once and then, for an hour, no more
        await eventually(harness.statuses)
    assert await harness.statuses() == {"2026-11-20T08:00:00Z": "published"}
    assert outbox.written.is_set(), "the relay is woken"
    (row,) = await harness.sql("SELECT updated_at - position FROM taskbell.schedule_state")
    assert row[0].total_seconds() >= 0, "never early"


async def test_where_its_first_look_failed_it_looks_again_before_anything_else(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = scheduling.fingerprint

    async def refused(*_: object) -> object:
        monkeypatch.setattr(scheduling, "fingerprint", fingerprint)
        raise DatabaseUnavailable("sorry, too many clients already")

    monkeypatch.setattr(scheduling, "fingerprint", refused)
    await harness.at("2026-11-20T07:59:58.500", runs=True)
    async with running(harness.database):  # and for an hour the next look is not due
        await eventually(harness.statuses)
    assert await harness.statuses() == {"2026-11-20T08:00:00Z": "published"}


async def test_a_position_set_back_is_noticed_at_the_next_look(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T08:00:30")
    async with running(harness.database, look=0.05) as health:
        await eventually(lambda: health.ready)
        await harness.sql("UPDATE taskbell.schedule_state SET position = position - interval '2 minutes'")
        await eventually(harness.statuses)
    assert await harness.statuses() == {"2026-11-20T07:59:00Z": "missed", "2026-11-20T08:00:00Z": "published"}


async def test_what_fell_due_while_postgresql_was_away_is_caught_up_with(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T08:00:30")
    async with Proxy(harness.url) as proxy:
        database = Database.connect(load(DatabaseAccess, database_url=proxy.url), name="test scheduler")
        async with running(database, look=0.05) as health:
            await eventually(lambda: health.ready)
            proxy.hold()
            proxy.cut()
            await eventually(lambda: not health.ready)
            await harness.at("2026-11-20T08:02:30")
            proxy.cut()
            proxy.release()
            await eventually(harness.statuses)
        await database.close()
    assert await harness.statuses() == {"2026-11-20T08:01:00Z": "missed", "2026-11-20T08:02:00Z": "published"}


async def test_it_stops_at_once_when_told(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T08:00:30")
    async with running(harness.database) as health:
        await eventually(lambda: health.ready)


async def test_it_stops_while_postgresql_is_away() -> None:
    database = Database.connect(load(DatabaseAccess, database_url="postgresql://a@127.0.0.1:1/x"), name="test")
    async with running(database) as health:
        await eventually(lambda: "PostgreSQL" in str(health.report()))
    await database.close()
