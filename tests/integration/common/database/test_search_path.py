"""Functions and operators in the app's schema that fit our SQL better than PostgreSQL's own are never called."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager

import asyncpg
import pytest
import pytest_asyncio
from tests.integration.common.database.conftest import connected
from tests.support.look_alikes import plant
from tests.support.pgbouncer import pgbouncer

from taskbell.database import Database

SHADOWED = "SELECT hashtextextended('a', 0)"


@contextmanager
def directly(url: str) -> Iterator[Database]:
    yield connected(url)


@contextmanager
def behind_pgbouncer(url: str) -> Iterator[Database]:
    with pgbouncer(url, connections=1) as pooled:
        yield connected(pooled, database_prepared_statements=False)


@pytest_asyncio.fixture(params=[directly, behind_pgbouncer], ids=lambda way: way.__name__)
async def database(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Database]:
    """Where others have planted them, and where they are the first to be found."""
    await plant(database_url, ["public"])
    name = database_url.rpartition("/")[2]
    admin = await asyncpg.connect(database_url)
    try:
        await admin.execute(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')
    finally:
        await admin.close()
    async with AsyncExitStack() as stack:
        database = stack.enter_context(request.param(database_url))
        stack.push_async_callback(database.close)
        yield database


async def test_they_are_called_where_nobody_takes_care(database_url: str) -> None:
    await plant(database_url, ["public"])
    careless = await asyncpg.connect(database_url)
    try:
        with pytest.raises(asyncpg.RaiseError, match=r"look-alike hashtextextended\(text, integer\) was called"):
            await careless.fetchval(SHADOWED)
    finally:
        await careless.close()


async def test_no_statement_calls_them(database: Database) -> None:
    async with database.statement() as transaction:
        assert await transaction.value(SHADOWED)


async def test_no_transaction_calls_them_before_or_after_another(database: Database) -> None:
    for _ in range(2):
        async with database.transaction() as transaction:
            assert await transaction.value(SHADOWED)
            assert await transaction.value("SELECT CAST('b' AS varchar) = CAST('b' AS text)")
