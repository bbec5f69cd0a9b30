"""A database with a broker: outbox and commands need both."""

from collections.abc import AsyncIterator

import pytest_asyncio
from tests.integration.common.database.conftest import connected

from taskbell.database import Database


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = connected(database_url, database_pool_size=8)
    yield database
    await database.close()
