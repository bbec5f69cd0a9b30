"""Databases of a test's own, and a PostgreSQL of our own that can be stopped."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from taskbell.database import Database
from taskbell.settings import CommonSettings, load
from taskbell_devstack.stack import Stack


def connected(url: str, **more: object) -> Database:
    """A pool of three connections, at most."""
    given = {"database_url": url, "broker_url": "amqp://mq/", "database_pool_size": 3} | more
    return Database.connect(load(CommonSettings, **given), name="test")


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = connected(database_url)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def admin(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection beside the pool."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Stack]:
    """A PostgreSQL of our own, running."""
    folder = Path(tempfile.mkdtemp(prefix="taskbell-postgresql-"))
    folder.chmod(0o755)
    stack = Stack(folder / "stack", servers=["postgresql"])
    stack.up()
    yield stack
    stack.down(at_once=True, remove_data=True)
    shutil.rmtree(folder)
