"""Commands and messages of others are not held up by a login without grants, nor taken by whoever may enqueue."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from tests.integration.common.outbox.test_commands import CommandRunner, command
from tests.support.stranger import stranger_on

from taskbell.contracts import WeeklyDue
from taskbell.database import Database
from taskbell.outbox import Outbox, OutboxMessage


@pytest_asyncio.fixture
async def stranger(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    async with stranger_on(database_url) as connection:
        yield connection


async def test_advisory_locks_hold_up_no_command(
    runner: CommandRunner,
    stranger: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    for number in range(20):
        await stranger.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", f"m-{number}")
    async with asyncio.timeout(20):
        await runner.run(*(command(number) for number in range(1, 20)))
    assert len(await runner.effects()) == 19


async def rows(database: Database) -> list[tuple[str, str, bool]]:
    """Owner, the message_id that it is published under, and whether the row's own is another."""
    async with database.transaction() as transaction:
        found = await transaction.rows(
            "SELECT owner, coalesce(wire_id, message_id), wire_id IS NOT NULL FROM taskbell.outbox ORDER BY id"
        )
        return [tuple(row) for row in found]


@pytest.mark.parametrize("first", ["app", "maintenance"])
async def test_a_message_id_in_the_outbox_is_its_owners(database: Database, first: str) -> None:
    """Whoever comes second is written and published as well, and a service says so."""
    outbox = Outbox("maintenance")

    async def enqueue() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("SELECT taskbell.enqueue('weekly.due', '{}', 'taken')")

    async def add() -> None:
        async with database.transaction() as transaction:
            await outbox.add(transaction, [OutboxMessage(WeeklyDue(), "taken"), OutboxMessage(WeeklyDue(), "free")])

    with capture_logs() as logs:
        for step in (enqueue, add, enqueue, add) if first == "app" else (add, enqueue, add, enqueue):
            await step()
    assert sorted(await rows(database)) == [
        ("app", "taken", first != "app"),
        ("maintenance", "free", False),
        ("maintenance", "taken", first == "app"),
    ]
    said = [(it["event"], it["message_id"]) for it in logs if it["log_level"] == "error"]
    assert said == ([("outbox.foreign", "taken")] if first == "app" else [])
