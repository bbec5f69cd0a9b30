"""The message_ids of what has taken effect, in a table of the app's own; needs `taskbell[service]` besides."""

import json
import re
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from taskbell.database import Database
from taskbell.faststream.handled import Handle
from taskbell.outcomes import Outcome

_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}\Z")
_PAGE = 5_000


class HandledInPostgresql:
    """Keeps them together with what the handler writes: both are committed, or neither.

    Args:
        engine: the app's own.
        table: `schema.table`, with the columns queue and message_id (text, the primary key), outcome (jsonb) and
            handled_at (timestamptz, `DEFAULT now()`). The app's role needs INSERT, SELECT and UPDATE on it, and DELETE
            to prune.

    Raises:
        ValueError: `table` is not of that form.
    """

    def __init__(self, engine: AsyncEngine, table: str) -> None:
        if not _TABLE.match(table):
            msg = f"{table!r} is not a table: write schema.table, in small letters"
            raise ValueError(msg)
        self._database = Database(engine, app_schema="public")
        this = "queue = :queue AND message_id = :message_id"
        # The key makes another delivery of the same message wait until this transaction ends.
        self._insert = f"INSERT INTO {table} (queue, message_id) VALUES (:queue, :message_id) ON CONFLICT DO NOTHING"
        self._keep = f"UPDATE {table} SET outcome = CAST(:outcome AS jsonb) WHERE {this}"
        self._kept = f"SELECT outcome FROM {table} WHERE {this}"
        self._delete = f"""
            DELETE FROM {table} WHERE (queue, message_id) IN (
                SELECT queue, message_id FROM {table} WHERE handled_at < now() - CAST(:age AS interval) LIMIT :page)
        """

    async def once(self, queue: str, message_id: str, handle: Handle) -> Outcome | None:
        """As the protocol says; the handler works with an `AsyncConnection` in an open transaction.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer or refuses us.
        """
        key = {"queue": queue, "message_id": message_id}
        async with self._database.transaction() as transaction:
            if not (await transaction.execute(self._insert, key)).rowcount:
                kept = await transaction.value(self._kept, key)
                return None if kept is None else Outcome(**kept)
            outcome = await handle(transaction.connection)
            if outcome is not None:
                await transaction.execute(self._keep, key | {"outcome": _json(outcome)})
            return outcome

    async def prune(self, older_than: timedelta) -> int:
        """Deletes what was handled longer ago than that, some thousand rows a transaction; returns how many.

        A message that comes again afterwards is handled again. Dead letters can be published again for as long as they
        are kept, so 90 days are a good age.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer or refuses us.
        """
        pruned = 0
        while True:
            async with self._database.transaction() as transaction:
                deleted = (await transaction.execute(self._delete, {"age": older_than, "page": _PAGE})).rowcount
            pruned += deleted
            if deleted < _PAGE:
                return pruned


def _json(outcome: Outcome) -> str:
    kept = {"state": outcome.state, "result": outcome.result, "reason": outcome.reason}
    return json.dumps(kept, ensure_ascii=False, default=str)
