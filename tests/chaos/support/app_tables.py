"""The web app's tables: people who get mail, tasks whose status is changed, and what became of both."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import asyncpg

from taskbell_devstack.databases import migrate
from tests.support.databases import fresh_database
from tests.support.management import Management

ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata")
FIRST_TASK = 1_000_000
"""Tasks from this number on have no assignee; commands change their status."""

PEOPLE = """
    INSERT INTO users (id, name, email, timezone, is_active)
    SELECT n, 'Person ' || n, 'person' || n || '@example.org', ($2::text[])[1 + n % cardinality($2::text[])], true
    FROM generate_series(1, $1::int) AS n
"""
THEIR_TASKS = """
    INSERT INTO tasks (id, title, status, priority, due_date, assignee_id)
    SELECT n, 'Late ' || n, 'pending', 'high', now() - interval '3 days', n FROM generate_series(1, $1::int) AS n
    UNION ALL
    SELECT $1 + n, 'Soon ' || n, 'pending', 'low', now() + interval '12 hours', n FROM generate_series(1, $1::int) AS n
"""
OTHER_TASKS = """
    INSERT INTO tasks (id, title, status, priority)
    SELECT n, 'Task ' || n, 'pending', 'medium' FROM generate_series($1::int, $1::int + $2::int - 1) AS n
"""


class Servers(Protocol):
    """Where PostgreSQL and RabbitMQ are; the users in the URLs are administrators."""

    database_url: str
    broker_url: str
    management: Management


@dataclass
class SharedServers:
    """A virtual host for one test, on servers that the run's tests share."""

    database_url: str
    broker_url: str
    management: Management


class AppTables:
    """The tables in one database. Most queries are repeated until PostgreSQL answers, if it is away."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.began = datetime.now(UTC)

    async def people(self, number: int) -> None:
        """Inserts people in several zones, each with an overdue task and one that is due within a day."""
        await self.execute(PEOPLE, number, list(ZONES))
        await self.execute(THEIR_TASKS, number)

    async def tasks(self, number: int) -> range:
        """Inserts pending tasks without an assignee; returns their ids."""
        await self.execute(OTHER_TASKS, FIRST_TASK, number)
        return range(FIRST_TASK, FIRST_TASK + number)

    async def start_work_on(self, tasks: Iterable[int]) -> None:
        """Enqueues commands that set them to in_progress, as a web app does: each in the app's own transaction."""
        for task in tasks:
            body = json.dumps({"task_id": task, "new_status": "in_progress"})
            await self.insisting(
                "SELECT taskbell.enqueue('maintenance.update_task_status', $1::jsonb, $2)", body, f"status-{task}"
            )

    async def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """The rows that a query finds."""
        connection = await asyncpg.connect(self.database_url, timeout=10)
        try:
            return [dict(row) for row in await connection.fetch(query, *values)]
        finally:
            await connection.close()

    async def execute(self, statement: str, *values: Any) -> None:
        """Runs a statement."""
        await self.rows(statement, *values)

    async def insisting(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """The rows that a query finds, repeated until PostgreSQL answers; it may have been executed more than once."""
        while True:
            try:
                return await self.rows(query, *values)
            except (
                OSError,
                TimeoutError,
                asyncpg.PostgresConnectionError,
                asyncpg.CannotConnectNowError,
                asyncpg.AdminShutdownError,
                asyncpg.CrashShutdownError,
                asyncpg.InterfaceError,
                asyncpg.InternalClientError,
            ):
                await asyncio.sleep(0.2)

    async def number(self, query: str, *values: Any) -> int:
        """The only number that a query finds."""
        (row,) = await self.insisting(query, *values)
        return int(next(iter(row.values())) or 0)

    async def open_deliveries(self) -> int:
        """Rows of the ledger that have not ended."""
        return await self.number("SELECT count(*) FROM taskbell.delivery WHERE ended_at IS NULL")

    async def unpublished(self) -> int:
        """Rows of the outbox without a confirm."""
        return await self.number("SELECT count(*) FROM taskbell.outbox WHERE published_at IS NULL")


@asynccontextmanager
async def nothing_can_be_written(tables: AppTables) -> AsyncIterator[None]:
    """Locks the tasks, so that commands stay under way until the block is left or PostgreSQL stops."""
    connection = await asyncpg.connect(tables.database_url)
    await connection.execute("BEGIN; LOCK TABLE tasks IN EXCLUSIVE MODE")
    try:
        yield
    finally:
        connection.terminate()


@asynccontextmanager
async def fresh_app_tables(servers: Servers) -> AsyncIterator[AppTables]:
    """A new, migrated database on that server."""
    async with fresh_database(servers.database_url) as url:
        await migrate(url)
        yield AppTables(url)


async def every_status_changed_once(tables: AppTables, servers: Servers, events: str, tasks: range) -> None:
    """Fails unless each command took effect, and its event is out at least once, under one message_id."""
    assert await tables.number("SELECT count(*) FROM tasks WHERE status = 'in_progress'") == len(tasks)
    ids: dict[int, set[str]] = {}
    while messages := await servers.management.take(events):
        for message in messages:
            ids.setdefault(message.json()["task_id"], set()).add(message.properties["message_id"])
    assert set(ids) == set(tasks)
    assert {len(found) for found in ids.values()} == {1}
