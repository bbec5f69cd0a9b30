"""A connection to PostgreSQL for one command."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskbell.database import Database
from taskbell.settings import DatabaseAccess, load
from taskbell.setup.refusals import explained


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
