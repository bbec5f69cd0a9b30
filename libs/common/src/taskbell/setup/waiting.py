"""Says whom setup waits for in PostgreSQL: which sessions hold the lock that it needs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from taskbell.database import Database, DatabaseSettings, sqlstate
from taskbell.errors import DatabaseUnavailable

LOOK = 0.5
"""Seconds between looks."""

LOCK_NOT_AVAILABLE = "55P03"
"""SQLSTATE of a statement that did not get its lock in time."""

# An administrator who is neither a superuser nor in pg_read_all_stats sees no application_name of other roles.
_HOLDERS = """
    SELECT b.pid, a.usename, a.application_name
    FROM unnest(pg_blocking_pids(:pid)) AS b (pid) LEFT JOIN pg_stat_activity AS a ON a.pid = b.pid
    ORDER BY b.pid
"""


@asynccontextmanager
async def holders_named(
    settings: DatabaseSettings, connection: AsyncConnection, say: Callable[[str], None]
) -> AsyncIterator[None]:
    """Says, while the block runs, for whose locks that connection waits; looks on a connection of its own.

    Raises:
        DatabaseUnavailable: the block did not get a lock in time; the error names who held it.
    """
    pid = (await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
    database = Database.connect(settings, name="taskbell setup: locks")
    found: list[str] = []
    looking = asyncio.create_task(_look(database, pid, found, say))
    try:
        yield
    except (DBAPIError, DatabaseUnavailable) as error:
        refusal = error if isinstance(error, DBAPIError) else error.__cause__
        if not isinstance(refusal, DBAPIError) or sqlstate(refusal) != LOCK_NOT_AVAILABLE:
            raise
        said = "PostgreSQL: setup did not get a lock in time" if error is refusal else str(error)
        by = found[-1] if found else "nobody any more: try again"
        msg = f"{said}; it is held by {by}"
        raise DatabaseUnavailable(msg) from refusal
    finally:
        looking.cancel()
        await asyncio.wait([looking])
        await database.close()


async def _look(database: Database, pid: int, found: list[str], say: Callable[[str], None]) -> None:
    """Looks until it is cancelled; says and appends whom it finds if they are others than before."""
    while True:
        await asyncio.sleep(LOOK)
        try:
            async with database.transaction() as transaction:
                rows = await transaction.rows(_HOLDERS, {"pid": pid})
        except (DatabaseUnavailable, DBAPIError):
            # Setup itself meets the same, and reports it.
            continue
        if rows and (not found or found[-1] != _in_words(rows)):
            found.append(_in_words(rows))
            say(f"waiting: PostgreSQL: a lock that setup needs is held by {found[-1]}")


def _in_words(rows: Sequence[Row[Any]]) -> str:
    return ", ".join(_session(row.pid, row.usename, row.application_name) for row in rows)


def _session(pid: int, role: str | None, application: str | None) -> str:
    if not pid:
        return "a prepared transaction"
    return f"process {pid} (role {role or 'unknown'}, application_name {application or 'unknown'})"
