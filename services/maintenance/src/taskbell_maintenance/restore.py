"""Brings archived tasks back, whole, into the present table of the app."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from taskbell.database import Database, Transaction
from taskbell_maintenance.repository import restoring

NAMED = 20
"""How many of the tasks that stay in the archive are named at most; all are counted."""

EXISTS = "a task with this id exists already"


@dataclass(slots=True)
class Restored:
    """The result of a restore."""

    tasks: int = 0
    """How many tasks are back."""
    left: int = 0
    """How many tasks stay in the archive."""
    reasons: dict[int, str] = field(default_factory=dict)
    """The first NAMED tasks that stay in the archive, each with the reason."""
    unknown_columns: set[str] = field(default_factory=set)
    """Columns that the app's table no longer has; their values stay in the archive."""


class Restore:
    """Brings back a batch, or one task of it. Tasks that cannot come back stay in the archive and are reported."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def restore(self, batch_id: int, task: int | None) -> Restored:
        """Brings back the tasks that are not restored yet, in transactions of bounded size.

        Tasks may refer to each other, so those that the table refused are tried again while a pass brings others back.
        """
        tasks = 0
        while True:
            result = await self._pass(batch_id, task)
            tasks += result.tasks
            if result.tasks == 0 or result.left == 0:
                result.tasks = tasks
                return result

    async def _pass(self, batch_id: int, task: int | None) -> Restored:
        result, after = Restored(), -(2**63)
        while True:
            async with self._database.transaction() as transaction:
                rows = await restoring.lock_waiting(transaction, batch_id, task, after)
                if not rows:
                    return result
                after = rows[-1].task_id
                columns = await restoring.columns(transaction, self._database.app)
                # Rows of one batch have the same keys, unless somebody altered the app's table during the cleanup.
                for keys, some in groupby(rows, key=lambda row: list(row.columns)):
                    await self._some(transaction, batch_id, [row.task_id for row in some], keys, columns, result)

    async def _some(
        self,
        transaction: Transaction,
        batch_id: int,
        ids: Sequence[int],
        keys: Sequence[str],
        columns: Mapping[str, bool],
        result: Restored,
    ) -> None:
        app = self._database.app
        result.unknown_columns.update(set(keys).difference(columns))
        existing = await restoring.existing(transaction, app, ids)
        missing = [task for task in ids if task not in existing]
        shared = [column for column, writable in columns.items() if writable and column in keys]
        back, refused = await restoring.put_back(transaction, app, batch_id, missing, shared) if missing else ((), {})
        result.tasks += len(back)
        _leave(result, {**dict.fromkeys(sorted(existing), EXISTS), **refused})


def _leave(result: Restored, reasons: Mapping[int, str]) -> None:
    result.left += len(reasons)
    for task in sorted(reasons)[: NAMED - len(result.reasons)]:
        result.reasons[task] = reasons[task]
