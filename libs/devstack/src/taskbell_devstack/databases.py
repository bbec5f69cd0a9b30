"""Prepares databases for tests and benchmarks."""

from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import create_async_engine

from taskbell.setup import schema


async def migrate(url: str) -> None:
    """Brings a database to this version, with the web app's tables in schema `public`."""
    engine = create_async_engine(urlsplit(url)._replace(scheme="postgresql+asyncpg").geturl())
    async with engine.begin() as connection:
        await schema.migrate(connection)
        await schema.create_app_tables(connection, "public")
    await engine.dispose()
