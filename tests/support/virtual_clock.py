"""A database whose clock is set by the test.

In this database alone PostgreSQL's own `now()` and `clock_timestamp()` get other names, and functions that read the
test's time take their place. So a test's time needs no way into the product. Defaults of columns were bound when their
table was made, and keep to the real clock, unless `take_over_defaults` is called.
"""

from datetime import datetime

import asyncpg

# CREATE OR REPLACE would change nothing: PostgreSQL calls its own functions by their numbers.
_SETUP = """
    SET allow_system_table_mods = on;
    CREATE TABLE public.virtual_clock (at timestamptz NOT NULL, set_at timestamptz, runs boolean NOT NULL);
    GRANT SELECT ON public.virtual_clock TO PUBLIC;
    INSERT INTO public.virtual_clock VALUES (now(), now(), true);
    ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO real_clock_timestamp;
    ALTER FUNCTION pg_catalog.now() RENAME TO real_now;
    CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$
        SELECT CASE WHEN runs THEN at + (pg_catalog.real_clock_timestamp() - set_at) ELSE at END
        FROM public.virtual_clock
    $$;
    CREATE FUNCTION pg_catalog.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.clock_timestamp()';
    RESET allow_system_table_mods;
"""


class VirtualClock:
    """The clock of one database. Statements that were prepared before `install` keep to the real one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: asyncpg.Connection | None = None

    async def install(self) -> None:
        """Puts the virtual clock in place, showing the real time."""
        self._connection = await asyncpg.connect(self._url)
        await self._connection.execute(_SETUP)

    async def take_over_defaults(self) -> None:
        """From now on columns of our own tables that default to the time default to this clock's."""
        assert self._connection is not None, "install() comes first"
        columns = await self._connection.fetch(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'taskbell' AND column_default LIKE '%real_now()'"
        )
        assert columns, "no column defaults to the time"
        for table, column in columns:
            await self._connection.execute(
                f'ALTER TABLE taskbell."{table}" ALTER COLUMN "{column}" SET DEFAULT pg_catalog.now()'
            )

    async def set(self, at: datetime, *, runs: bool = False) -> None:
        """It is that time now; unless it runs, it stays so."""
        assert self._connection is not None, "install() comes first"
        await self._connection.execute(
            "UPDATE public.virtual_clock SET at = $1, set_at = pg_catalog.real_clock_timestamp(), runs = $2", at, runs
        )

    async def close(self) -> None:
        """Lets go of the database."""
        if self._connection is not None:
            await self._connection.close()
