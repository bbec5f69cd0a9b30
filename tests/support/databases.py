"""Fresh databases, quickly: copies of one that was migrated once."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg


@contextlib.asynccontextmanager
async def fresh_database(admin_url: str, *, template: str | None = None) -> AsyncIterator[str]:
    """A new database, empty or a copy of the one named `template`; yields its URL.

    Nobody may be connected to the template meanwhile. At the end it is dropped, whoever is connected.
    """
    name = f"test_{uuid.uuid4().hex[:16]}"
    copy = f' TEMPLATE "{template}"' if template else ""
    await _execute(admin_url, f'CREATE DATABASE "{name}"{copy}')
    try:
        yield database_url(admin_url, name)
    finally:
        await _execute(admin_url, f'DROP DATABASE "{name}" WITH (FORCE)')


def database_url(admin_url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlsplit(admin_url)._replace(path=f"/{name}").geturl()


def database_name(url: str) -> str:
    """The name of the database that the URL leads to."""
    return urlsplit(url).path.removeprefix("/")


async def fetch(url: str, query: str, *values: Any) -> list[dict[str, Any]]:
    """The rows that a query finds, over a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return [dict(row) for row in await connection.fetch(query, *values)]
    finally:
        await connection.close()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
