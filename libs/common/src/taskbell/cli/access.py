"""A connection to PostgreSQL for one command."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from taskbell.database import Database, Transaction
from taskbell.settings import DatabaseAccess, load
from taskbell.setup.refusals import explained

T = TypeVar("T")


@asynccontextmanager
async def database() -> AsyncIterator[Database]:
    """The database that DATABASE_URL names.

    Raises:
        SettingsError: DATABASE_URL is not set, or PostgreSQL refuses a statement; the error names the remedy.
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    connected = Database.connect(load(DatabaseAccess), name="taskbell command")
    try:
        with explained():
            yield connected
    finally:
        await connected.close()


async def asked(ask: Callable[[Transaction], Awaitable[T]]) -> T:
    """The answer of the database that DATABASE_URL names, in a transaction of its own. Raises what `database` does."""
    async with database() as connected, connected.transaction() as transaction:
        return await ask(transaction)
