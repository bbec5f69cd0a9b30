"""`taskbell archive`: shows what cleanups took out of the app's table, and restores it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

import typer
from sqlalchemy import RowMapping

from taskbell.cli.access import database
from taskbell.cli.console import print_json, print_table, shown
from taskbell.database import Database
from taskbell.errors import Mistake
from taskbell_maintenance.repository import restoring
from taskbell_maintenance.restore import Restore, Restored

T = TypeVar("T")
MAX_ID = 2**63 - 1
BatchId = Annotated[int, typer.Argument(min=1, max=MAX_ID, help="The id of a batch; `taskbell archive list` shows it.")]
OneTask = Annotated[int | None, typer.Option("--task", min=1, max=MAX_ID, help="Only the task with this id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="The number of rows at most.")]

archive = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show what cleanups took out of the app's table, and restore it.",
)


@archive.command("list")
def list_batches(task: OneTask = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List archive batches, one for each cleanup, the newest first."""

    async def query(connected: Database) -> Sequence[RowMapping]:
        async with connected.transaction() as transaction:
            return await restoring.batches(transaction, task, limit)

    rows = _queried(query)
    if as_json:
        print_json([dict(row) for row in rows])
    elif rows:
        columns = ("id", "mode", "started_at", "finished_at", "cutoff", "tasks", "held", "restored")
        print_table(columns, [[row[column] for column in columns] for row in rows])
    else:
        print(f"No batch has task {task}." if task is not None else "No cleanup has taken a task yet.")


@archive.command()
def show(batch_id: BatchId, task: OneTask = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Show a batch, and the first of its tasks."""

    async def query(connected: Database) -> tuple[RowMapping | None, Sequence[RowMapping]]:
        async with connected.transaction() as transaction:
            batch = await restoring.batch(transaction, batch_id)
            return batch, await restoring.archived(transaction, batch_id, task, limit)

    batch, tasks = _queried(query)
    if batch is None:
        msg = f"batch {batch_id} does not exist; `taskbell archive list` lists all"
        raise Mistake(msg)
    if as_json:
        print_json(dict(batch) | {"archived": [dict(row) for row in tasks]})
        return
    for name, value in batch.items():
        print(f"{name:13} {shown(value)}".rstrip())
    if tasks:
        print_table(("task", "title", "completed_at", "restored_at"), [tuple(row.values()) for row in tasks])


@archive.command()
def restore(batch_id: BatchId, task: OneTask = None, as_json: AsJson = False) -> None:
    """Bring archived tasks back into the app's table, whole. The exit status is 1 if some cannot come back."""

    async def bring_back(connected: Database) -> Restored:
        async with connected.transaction() as transaction:
            batch = await restoring.batch(transaction, batch_id)
            named = await restoring.archived(transaction, batch_id, task, 1)
        _check(batch_id, batch, task, named)
        return await Restore(connected).restore(batch_id, task)

    result = _queried(bring_back)
    if as_json:
        print_json({"restored": result.tasks, "left": result.left, "reasons": result.reasons})
    else:
        _print(result, batch_id)
    if result.left:
        raise typer.Exit(1)


def _check(batch_id: int, batch: RowMapping | None, task: int | None, named: Sequence[RowMapping]) -> None:
    if batch is None:
        msg = f"batch {batch_id} does not exist; `taskbell archive list` lists all"
        raise Mistake(msg)
    if batch["mode"] == "delete":
        msg = f"batch {batch_id} cannot be restored: its cleanup deleted the tasks instead of archiving them"
        raise Mistake(msg)
    if task is None:
        return
    if not named:
        msg = f"task {task} is not in batch {batch_id}; `taskbell archive list --task {task}` finds it"
        raise Mistake(msg)
    if named[0]["restored_at"] is not None:
        msg = f"task {task} of batch {batch_id} was already restored, at {shown(named[0]['restored_at'])}"
        raise Mistake(msg)


def _print(result: Restored, batch_id: int) -> None:
    if not result.tasks and not result.left:
        print(f"Nothing of batch {batch_id} is left to restore.")
        return
    print(f"{result.tasks} restored from batch {batch_id}.")
    if result.tasks:
        print("The next cleanup takes them again if they are still done and old: reopen those that must stay.")
    if result.unknown_columns:
        columns = ", ".join(sorted(result.unknown_columns))
        print(f"The table no longer has these columns, whose values stay in the archive: {columns}")
    if result.left:
        print(f"{result.left} stay in the archive, the first of them:")
        print_table(("task", "why"), result.reasons.items())


def _queried(query: Callable[[Database], Awaitable[T]]) -> T:
    async def run_query() -> T:
        async with database() as connected:
            return await query(connected)

    return asyncio.run(run_query())
