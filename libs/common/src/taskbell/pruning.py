"""Deletes rows that ended long ago, in bounded batches, so that none of our tables grows for ever.

Each service prunes what it has written: its own tables, the outbox's rows of the owners that it relays, and the
outcomes of the commands that it consumes.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from taskbell.catalogue import catalogue
from taskbell.concurrency import first_of
from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell.outbox import Owner

EVERY = 3600.0
"""Seconds between rounds. The first round is at the start, so that a process that is restarted more often than once an
hour also prunes. A round that finds nothing costs one look into an index for each table."""

BATCH = 1_000
"""Rows that are deleted in one transaction, at most."""

PAUSE = 0.05
"""Seconds between batches, so that a long round does not slow others down."""

KEPT = timedelta(days=90)
"""How long a row is kept after its end. That is longer than any catch-up window of a schedule, so that no occurrence is
deleted that could still be caught up with."""

KEPT_OF_APP = timedelta(days=7)
"""How long a published message of the web app is kept; there may be many."""


@dataclass(frozen=True, slots=True)
class EndedRows:
    """Rows of one table that are deleted some time after their end. All texts are our own SQL.

    Attributes:
        table: the table, with its schema.
        key: the columns of its primary key.
        ended: the column with the time of a row's end, which is null before; it needs an index.
        where: a further condition on a row, which is named `t`.
        parameters: the parameters of that condition.
        kept: how long a row is kept after its end.
    """

    table: str
    key: str
    ended: str
    where: str = "true"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    kept: timedelta = KEPT

    @property
    def statement(self) -> str:
        """SQL that deletes the oldest of these rows, at most `:limit`, but leaves those that others have locked."""
        key = ", ".join(f"t.{column.strip()}" for column in self.key.split(","))
        # ONLY: a table that inherits from this one has keys of its own.
        return f"""
            DELETE FROM ONLY {self.table} WHERE ({self.key}) IN (
                SELECT {key} FROM ONLY {self.table} AS t
                WHERE t.{self.ended} < now() - CAST(:kept AS interval) AND ({self.where})
                ORDER BY t.{self.ended} LIMIT :limit
                FOR UPDATE OF t SKIP LOCKED
            )
        """  # noqa: S608 - names of our own tables and columns


def published_by(owner: Owner, *, kept: timedelta = KEPT) -> EndedRows:
    """The published messages of that owner in the outbox."""
    return EndedRows("taskbell.outbox", "id", "published_at", "t.owner = :owner", {"owner": owner}, kept)


def commands_of(service: str, *, and_of_nobody: bool = False) -> EndedRows:
    """Outcomes of the commands that a service consumes.

    Args:
        and_of_nobody: also those of commands that no service consumes, for example because a package was removed.
    """
    return _commands("taskbell.command", "message_id", service, and_of_nobody)


def refused_commands_of(service: str, *, and_of_nobody: bool = False) -> EndedRows:
    """As `commands_of`: those of the service's commands that took no message_id."""
    return _commands("taskbell.refused_command", "key", service, and_of_nobody)


def _commands(table: str, key: str, service: str, and_of_nobody: bool) -> EndedRows:
    if and_of_nobody:
        where = "t.routing_key <> ALL(CAST(:keys AS text[]))"
        keys = [it.routing_key for it in catalogue().values() if it.consumer not in (None, service)]
    else:
        where = "t.routing_key = ANY(CAST(:keys AS text[]))"
        keys = [it.routing_key for it in catalogue().values() if it.consumer == service]
    return EndedRows(table, key, "finished_at", where, {"keys": keys})


class Pruner:
    """Deletes rows that ended long ago, table by table in the given order. A Part.

    Any number may run: each skips the rows that another is deleting.
    """

    def __init__(self, database: Database, gate: Gate, tables: Sequence[EndedRows]) -> None:
        self.name = "pruner"
        self._database = database
        self._gate = gate
        self._tables = tables
        self._log = logger("pruner")

    async def run(self, stop: asyncio.Event) -> None:
        """Prunes at the start and every hour, until `stop`."""
        await self._gate.rounds(self.name, partial(self._round, stop), stop)

    async def _round(self, stop: asyncio.Event) -> float:
        await self.prune(stop)
        return EVERY

    async def prune(self, stop: asyncio.Event) -> None:
        """Deletes everything that is old enough; at `stop`, ends after the batch that is under way.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer; the batches before are deleted.
        """
        for rows in self._tables:
            deleted = 0
            full = True
            while full and not stop.is_set():
                some = await self._batch(rows)
                deleted += some
                full = some >= BATCH
                if full:
                    await first_of(stop.wait(), timeout=PAUSE)
            if deleted:
                self._log.info("rows.pruned", table=rows.table, rows=deleted)

    async def _batch(self, rows: EndedRows) -> int:
        parameters = {"kept": rows.kept, "limit": BATCH, **rows.parameters}
        async with self._database.statement() as transaction:
            return (await transaction.execute(rows.statement, parameters)).rowcount
