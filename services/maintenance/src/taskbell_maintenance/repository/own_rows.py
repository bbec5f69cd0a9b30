"""All SQL that prunes this service's own ended rows."""

from datetime import timedelta

from taskbell.database import Database

BATCH = 1_000
"""Rows deleted in one transaction."""

_COMMANDS = """
    DELETE FROM taskbell.command WHERE message_id IN (
        SELECT message_id FROM taskbell.command
        WHERE finished_at < now() - CAST(:age AS interval) AND routing_key NOT LIKE 'notifier.%'
        ORDER BY finished_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
"""

_OUTBOX = """
    DELETE FROM taskbell.outbox WHERE id IN (
        SELECT id FROM taskbell.outbox
        WHERE owner = :owner AND published_at < now() - CAST(:age AS interval)
        ORDER BY published_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
"""


class OwnRows:
    """Rows of Taskbell's tables that have ended long ago."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prune_commands(self, age: timedelta) -> int:
        """Deletes at most BATCH outcomes of commands that ended so long ago; returns how many."""
        async with self._database.transaction() as transaction:
            return (await transaction.execute(_COMMANDS, {"age": age, "limit": BATCH})).rowcount

    async def prune_outbox(self, owner: str, age: timedelta) -> int:
        """Deletes at most BATCH messages of that owner that were published so long ago; returns how many."""
        known = {"owner": owner, "age": age, "limit": BATCH}
        async with self._database.transaction() as transaction:
            return (await transaction.execute(_OUTBOX, known)).rowcount
