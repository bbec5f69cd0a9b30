"""Prepares databases for tests and benchmarks, and connects to them."""

from urllib.parse import urlsplit

import asyncpg
from sqlalchemy.ext.asyncio import create_async_engine

from taskbell.database import SEARCH_PATH
from taskbell.setup import schema


async def connect(url: str) -> asyncpg.Connection:
    """A connection that looks names up where Taskbell's own sessions do."""
    return await asyncpg.connect(url, server_settings={"search_path": SEARCH_PATH})


async def migrate(url: str) -> None:
    """Brings a database to this version, with the web app's tables in schema `public`."""
    engine = create_async_engine(
        urlsplit(url)._replace(scheme="postgresql+asyncpg").geturl(),
        connect_args={"server_settings": {"search_path": SEARCH_PATH}},
    )
    async with engine.begin() as connection:
        await schema.migrate(connection)
        await schema.create_app_tables(connection, "public")
    await engine.dispose()
