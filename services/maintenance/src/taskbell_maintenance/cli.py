"""`taskbell archive`: what cleanups took out of the app's table, and the way back."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

import typer
from sqlalchemy import RowMapping

from taskbell.cli.access import database
from taskbell.cli.console import Mistake, print_json, print_table, shown
from taskbell.database import Database
from taskbell_maintenance.repository import restoring
from taskbell_maintenance.restore import Restore, Restored

T = TypeVar("T")
MAX_ID = 2**63 - 1
BatchId = Annotated[int, typer.Argument(min=1, max=MAX_ID, help="A batch, as `taskbell archive list` numbers it.")]
OneTask = Annotated[int | None, typer.Option("--task", min=1, max=MAX_ID, help="Only this task, by its id.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")]

archive = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What cleanups took out of the app's table, and the way back.",
)


@archive.command("list")
def list_batches(task: OneTask = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List archive batches, one a cleanup, the newest first."""

    async def ask(connected: Database) -> Sequence[RowMapping]:
        async with connected.transaction() as transaction:
            return await restoring.batches(transaction, task, limit)

    rows = _asked(ask)
    if as_json:
        print_json([dict(row) for row in rows])
    elif rows:
        columns = ("id", "mode", "started_at", "finished_at", "cutoff", "tasks", "held", "restored")
        print_table(columns, [[row[column] for column in columns] for row in rows])
    else:
        print(f"No batch has task {task}." if task is not None else "No cleanup has taken anything yet.")


@archive.command()
def show(batch_id: BatchId, task: OneTask = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Show a batch, and the first of its tasks."""

    async def ask(connected: Database) -> tuple[RowMapping | None, Sequence[RowMapping]]:
        async with connected.transaction() as transaction:
            batch = await restoring.batch(transaction, batch_id)
            return batch, await restoring.archived(transaction, batch_id, task, limit)

    batch, tasks = _asked(ask)
    if batch is None:
        msg = f"there is no batch {batch_id}; `taskbell archive list` lists them"
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
    """Bring archived tasks back into the app's table, whole. Ends with status 1 where some cannot come back."""

    async def bring_back(connected: Database) -> Restored:
        async with connected.transaction() as transaction:
            batch = await restoring.batch(transaction, batch_id)
            named = await restoring.archived(transaction, batch_id, task, 1)
        _check(batch_id, batch, task, named)
        return await Restore(connected, restoring.Restoring(connected)).restore(batch_id, task)

    result = _asked(bring_back)
    if as_json:
        print_json({"restored": result.tasks, "left": result.left, "reasons": result.reasons})
    else:
        _tell(result, batch_id)
    if result.left:
        raise typer.Exit(1)


def _check(batch_id: int, batch: RowMapping | None, task: int | None, named: Sequence[RowMapping]) -> None:
    if batch is None:
        msg = f"there is no batch {batch_id}; `taskbell archive list` lists them"
        raise Mistake(msg)
    if batch["mode"] == "delete":
        msg = f"batch {batch_id} deleted its tasks: they were not kept"
        raise Mistake(msg)
    if task is None:
        return
    if not named:
        msg = f"task {task} is not in batch {batch_id}; `taskbell archive list --task {task}` finds it"
        raise Mistake(msg)
    if named[0]["restored_at"] is not None:
        msg = f"task {task} of batch {batch_id} was restored already, at {shown(named[0]['restored_at'])}"
        raise Mistake(msg)


def _tell(result: Restored, batch_id: int) -> None:
    if not result.tasks and not result.left:
        print(f"Nothing of batch {batch_id} is left to restore.")
        return
    print(f"{result.tasks} restored from batch {batch_id}.")
    if result.tasks:
        print("A cleanup takes them again while they are done and old: reopen those that shall stay.")
    if result.unknown_columns:
        columns = ", ".join(sorted(result.unknown_columns))
        print(f"The table has no such columns any more, their values stay in the archive: {columns}")
    if result.left:
        print(f"{result.left} stay in the archive, the first of them:")
        print_table(("task", "why"), result.reasons.items())


def _asked(ask: Callable[[Database], Awaitable[T]]) -> T:
    async def answer() -> T:
        async with database() as connected:
            return await ask(connected)

    return asyncio.run(answer())
