"""Terminates database sessions of frozen processes that PostgreSQL does not end itself, so that their locks are freed.

`idle_in_transaction_session_timeout` ends a session that waits for its client's next statement. Between preparing a
statement and executing it a session does not count as idle: asyncpg ends the first step with Flush, not with Sync, so
PostgreSQL still calls it active; and statement_timeout does not apply while PostgreSQL waits for the client. A process
that is stopped (SIGSTOP, a suspended virtual machine) at that point would keep its locks until it goes on.
"""

import asyncio

from taskbell.database import IDLE_IN_TRANSACTION, Database
from taskbell.gate import Gate
from taskbell.logs import logger

# Every role may terminate its own sessions; sessions that other programs open as that role have another
# application_name.
_END = """
    SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user
        AND application_name = current_setting('application_name')
        AND state = 'active' AND wait_event = 'ClientRead'
        AND state_change < statement_timestamp() - make_interval(secs => CAST(:seconds AS float8))
"""


class StalledSessions:
    """Looks for stalled sessions of this service, of any of its processes.

    Args:
        limit: seconds for which a session may stand still; also the time between looks.
    """

    def __init__(self, database: Database, gate: Gate, *, limit: float = IDLE_IN_TRANSACTION) -> None:
        self.name = "stalled sessions"
        self._database = database
        self._gate = gate
        self._limit = limit
        self._log = logger("stalled")

    async def run(self, stop: asyncio.Event) -> None:
        """Looks for stalled sessions at the start and every `limit` seconds, until `stop`."""
        await self._gate.rounds(self.name, self._round, stop)

    async def _round(self) -> float:
        await self.end()
        return self._limit

    async def end(self) -> int:
        """Terminates stalled sessions; returns how many.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer.
        """
        async with self._database.statement() as transaction:
            rows = await transaction.rows(_END, {"seconds": self._limit})
        if rows:
            self._log.warning("sessions.ended", sessions=len(rows), reason="frozen in the middle of a statement")
        return len(rows)
