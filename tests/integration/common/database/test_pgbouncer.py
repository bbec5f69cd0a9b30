"""Statements and transactions behind PgBouncer in transaction mode, where each may run on another connection."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from tests.integration.common.database.conftest import connected
from tests.support.pgbouncer import pgbouncer

from taskbell.database import Database

CONNECTIONS = 3
CLIENTS = 4
EACH = 50


@pytest_asyncio.fixture
async def clients(database_url: str) -> AsyncIterator[list[Database]]:
    """Processes, as it were: more of them than there are connections to PostgreSQL."""
    with pgbouncer(database_url, connections=CONNECTIONS) as url:
        clients = [connected(url, database_prepared_statements=False) for _ in range(CLIENTS)]
        yield clients
        for client in clients:
            await client.close()


async def stated(client: Database, number: int) -> int:
    async with client.statement() as tx:
        return int(await tx.value(f"SELECT {number} + CAST(:number AS int)", {"number": number}))


async def transacted(client: Database, number: int) -> tuple[int, str]:
    async with client.transaction() as tx:
        first = await tx.value("SELECT CAST(:number AS int) + 1", {"number": number})
        return int(first), str(await tx.value("SELECT CAST(:number AS text)", {"number": str(number)}))


async def test_everybody_gets_the_answer_to_their_own_question(clients: list[Database]) -> None:
    alone = [stated(clients[number % CLIENTS], number) for number in range(CLIENTS * EACH)]
    together = [transacted(clients[number % CLIENTS], number) for number in range(CLIENTS * EACH)]

    answers, pairs = await asyncio.gather(asyncio.gather(*alone), asyncio.gather(*together))

    assert answers == [2 * number for number in range(CLIENTS * EACH)]
    assert pairs == [(number + 1, str(number)) for number in range(CLIENTS * EACH)]


async def test_no_statement_stays_prepared(clients: list[Database]) -> None:
    await asyncio.gather(*(transacted(clients[number % CLIENTS], number) for number in range(CLIENTS * EACH)))
    await asyncio.gather(*(stated(clients[number % CLIENTS], number) for number in range(CLIENTS * EACH)))

    async def prepared(client: Database) -> tuple[int, list[str]]:
        async with client.transaction() as tx:
            pid = await tx.value("SELECT pg_backend_pid() FROM pg_sleep(0.2)")  # so that all connections are asked
            return int(pid), [row.name for row in await tx.rows("SELECT name FROM pg_prepared_statements")]

    asked = await asyncio.gather(*(prepared(clients[number]) for number in range(CONNECTIONS)))
    assert [names for _, names in asked] == [[], [], []]
    assert len({pid for pid, _ in asked}) == CONNECTIONS
