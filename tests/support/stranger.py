"""A login without any grant, as anybody has who may connect to the database."""

import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg


@contextlib.asynccontextmanager
async def login_without_grants(database_url: str) -> AsyncIterator[str]:
    """Its URL; the login exists until the block ends."""
    admin = await asyncpg.connect(database_url)
    role = f"stranger_{await admin.fetchval('SELECT current_database()')}"
    await admin.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'pw'")
    parts = urlsplit(database_url)
    try:
        yield urlunsplit(parts._replace(netloc=f"{role}:pw@{parts.netloc.rpartition('@')[2]}"))
    finally:
        await admin.execute(f'DROP ROLE "{role}"')
        await admin.close()


@contextlib.asynccontextmanager
async def stranger_on(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection of such a login."""
    async with login_without_grants(database_url) as url:
        connection = await asyncpg.connect(url)
        try:
            yield connection
        finally:
            await connection.close()
