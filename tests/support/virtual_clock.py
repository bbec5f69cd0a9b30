"""A database whose clock is set by the test.

SQL that says `now()` or `clock_timestamp()` finds functions of these names in a schema that is searched before
PostgreSQL's own. Defaults of columns were bound when their table was made, and keep to the real clock, unless
`take_over_defaults` is called.
"""

from datetime import datetime
from urllib.parse import urlsplit

import asyncpg

_SETUP = """
    CREATE SCHEMA virtual;
    CREATE TABLE virtual.clock (at timestamptz NOT NULL, set_at timestamptz, runs boolean NOT NULL);
    INSERT INTO virtual.clock VALUES (pg_catalog.now(), pg_catalog.now(), true);
    CREATE FUNCTION virtual.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$
        SELECT CASE WHEN runs THEN at + (pg_catalog.clock_timestamp() - set_at) ELSE at END FROM virtual.clock
    $$;
    CREATE FUNCTION virtual.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT virtual.clock_timestamp()';
"""


class VirtualClock:
    """The clock of one database. Connections that were opened before `install` keep to the real one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: asyncpg.Connection | None = None

    async def install(self) -> None:
        """Puts the virtual clock in place, showing the real time."""
        self._connection = await asyncpg.connect(self._url)
        await self._connection.execute(_SETUP)
        name = urlsplit(self._url).path.removeprefix("/")
        await self._connection.execute(f'ALTER DATABASE "{name}" SET search_path = virtual, pg_catalog, public')

    async def take_over_defaults(self) -> None:
        """From now on columns of our own tables that default to the time default to this clock's."""
        assert self._connection is not None, "install() comes first"
        columns = await self._connection.fetch(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'taskbell' AND column_default LIKE '%now()'"
        )
        assert columns, "no column defaults to the time"
        for table, column in columns:
            await self._connection.execute(
                f'ALTER TABLE taskbell."{table}" ALTER COLUMN "{column}" SET DEFAULT virtual.now()'
            )

    async def set(self, at: datetime, *, runs: bool = False) -> None:
        """It is that time now; unless it runs, it stays so."""
        assert self._connection is not None, "install() comes first"
        await self._connection.execute(
            "UPDATE virtual.clock SET at = $1, set_at = pg_catalog.clock_timestamp(), runs = $2", at, runs
        )

    async def close(self) -> None:
        """Lets go of the database."""
        if self._connection is not None:
            await self._connection.close()
