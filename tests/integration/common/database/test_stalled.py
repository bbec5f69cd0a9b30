"""Sessions of frozen processes: what PostgreSQL ends itself, and what is ended for it."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import asyncpg
import pytest
import pytest_asyncio
from tests.support.probes import ping
from tests.support.waiting import eventually

from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.settings import DatabaseAccess, load
from taskbell.stalled import StalledSessions

LIMIT = 0.3
NAME = "test stalled"
LOCK = "SELECT 1 FROM taskbell.schedule_state WHERE schedule = 'a' FOR UPDATE"


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database.connect(load(DatabaseAccess, database_url=database_url), name=NAME)
    async with database.transaction() as transaction:
        await transaction.execute(
            "INSERT INTO taskbell.schedule_state (schedule, zone, position) VALUES ('a', 'UTC', now())"
        )
    yield database
    await database.close()


@pytest_asyncio.fixture
async def frozen(database: Database, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session that has locked a row and then stopped between preparing a statement and executing it."""
    settings = {"application_name": NAME, "idle_in_transaction_session_timeout": "100", "statement_timeout": "100"}
    connection = await asyncpg.connect(database_url, server_settings=settings)
    await connection.execute("BEGIN")
    await connection.fetch(LOCK)
    await connection.prepare("SELECT count(*) FROM taskbell.occurrence WHERE schedule = $1")
    yield connection
    connection.terminate()


@pytest.fixture
def gate(database: Database) -> Gate:
    return Gate("postgresql", partial(ping, database), Health())


async def is_locked(database_url: str) -> bool:
    other = await asyncpg.connect(database_url)
    try:
        return not await other.fetch(LOCK + " SKIP LOCKED")
    finally:
        await other.close()


async def test_what_no_limit_of_postgresql_ends_is_ended(
    database: Database, database_url: str, gate: Gate, frozen: asyncpg.Connection
) -> None:
    await asyncio.sleep(2 * LIMIT)
    assert await is_locked(database_url), "PostgreSQL ends it by itself now: this module is no longer needed"
    stop = asyncio.Event()
    parts = (gate, StalledSessions(database, gate, limit=LIMIT))
    running = [asyncio.create_task(part.run(stop)) for part in parts]

    async def free() -> bool:
        return not await is_locked(database_url)

    await eventually(free)
    stop.set()
    await asyncio.gather(*running)


async def test_what_works_or_belongs_to_others_is_left_alone(database: Database, database_url: str, gate: Gate) -> None:
    other = await asyncpg.connect(database_url, server_settings={"application_name": "another program"})
    await other.execute("BEGIN")
    await other.prepare("SELECT 1")  # frozen too, but none of this service's
    async with database.transaction() as idle, database.transaction() as working:
        await idle.value("SELECT 1")
        sleeping = asyncio.create_task(working.value(f"SELECT true FROM pg_sleep({4 * LIMIT})"))
        await asyncio.sleep(2 * LIMIT)
        assert await StalledSessions(database, gate, limit=LIMIT).end() == 0
        assert await sleeping is True
        assert await idle.value("SELECT 1") == 1
    assert await other.fetchval("SELECT 1") == 1
    await other.close()
