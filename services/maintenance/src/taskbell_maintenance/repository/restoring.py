"""SQL of the command line: shows the archive, and brings tasks back."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, RowMapping
from sqlalchemy.exc import DBAPIError

from taskbell import cuts
from taskbell.database import Transaction
from taskbell_maintenance.repository.names import column, of_app
from taskbell_maintenance.repository.refusals import refused

PAGE = 1_000
"""Tasks brought back in one transaction, at most."""

_BATCH_COLUMNS = """
    id, message_id, mode, cutoff, tasks, held, held_ids, held_reasons, restored, started_at, finished_at
"""

_BATCHES = f"""
    SELECT {_BATCH_COLUMNS} FROM taskbell.archive_batch AS b
    WHERE CAST(:task AS bigint) IS NULL
        OR EXISTS (SELECT FROM taskbell.archived_task AS a WHERE a.task_id = :task AND a.batch_id = b.id)
    ORDER BY id DESC LIMIT :limit
"""

_BATCH = f"SELECT {_BATCH_COLUMNS} FROM taskbell.archive_batch WHERE id = :id"

_ARCHIVED = f"""
    SELECT task_id, {cuts.name("row ->> 'title'")} AS title, {cuts.word("row ->> 'completed_at'")} AS completed_at,
        restored_at
    FROM taskbell.archived_task
    WHERE batch_id = :batch_id AND (CAST(:task AS bigint) IS NULL OR task_id = :task)
    ORDER BY task_id LIMIT :limit
"""

_WAITING = """
    SELECT task_id, ARRAY(SELECT jsonb_object_keys(row) ORDER BY 1) AS columns FROM taskbell.archived_task
    WHERE batch_id = :batch_id AND restored_at IS NULL AND task_id > :after
        AND (CAST(:task AS bigint) IS NULL OR task_id = :task)
    ORDER BY task_id LIMIT :limit
    FOR UPDATE
"""

_COLUMNS = """
    SELECT attname, attgenerated = '' AS writable FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass(:tasks) AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum
"""

_EXISTING = "SELECT t.id FROM {app}.tasks AS t WHERE t.id = ANY(CAST(:ids AS bigint[]))"

_RESTORED = """
    UPDATE taskbell.archived_task SET restored_at = now()
    WHERE batch_id = :batch_id AND task_id = ANY(CAST(:ids AS bigint[]))
"""

_COUNTED = "UPDATE taskbell.archive_batch SET restored = restored + :restored WHERE id = :batch_id"


async def batches(transaction: Transaction, task: int | None, limit: int) -> Sequence[RowMapping]:
    """The newest batches; if a task is given, only those that contain it."""
    return await transaction.mappings(_BATCHES, {"task": task, "limit": limit})


async def batch(transaction: Transaction, batch_id: int) -> RowMapping | None:
    """The batch with that id; None: there is none."""
    return next(iter(await transaction.mappings(_BATCH, {"id": batch_id})), None)


async def archived(transaction: Transaction, batch_id: int, task: int | None, limit: int) -> Sequence[RowMapping]:
    """The first tasks of a batch, or the given one: task_id, title, completed_at, restored_at."""
    return await transaction.mappings(_ARCHIVED, {"batch_id": batch_id, "task": task, "limit": limit})


async def columns(transaction: Transaction, app: str) -> Mapping[str, bool]:
    """The columns of the app's table, and whether each can be written: generated columns cannot."""
    return {row.attname: row.writable for row in await transaction.rows(_COLUMNS, {"tasks": f"{app}.tasks"})}


async def lock_waiting(transaction: Transaction, batch_id: int, task: int | None, after: int) -> Sequence[Row[Any]]:
    """Locks at most PAGE archived tasks that are not restored, with ids above `after`: task_id, columns."""
    known = {"batch_id": batch_id, "task": task, "after": after, "limit": PAGE}
    return await transaction.rows(_WAITING, known)


async def existing(transaction: Transaction, app: str, ids: Sequence[int]) -> set[int]:
    """Those of the ids that exist in the app's table."""
    found = await transaction.rows(of_app(_EXISTING, app), {"ids": ids})
    return {row.id for row in found}


async def put_back(
    transaction: Transaction, app: str, batch_id: int, ids: Sequence[int], columns: Sequence[str]
) -> tuple[Sequence[int], Mapping[int, str]]:
    """Inserts these columns of archived rows into the app's table, and marks the rows restored.

    Returns:
        The tasks that are back, and the reasons why others are not.
    """
    try:
        async with transaction.connection.begin_nested():
            rows = await transaction.rows(_insert(app, columns), {"batch_id": batch_id, "ids": ids})
    except DBAPIError as error:
        if (reason := refused(error)) is None:
            raise
    else:
        back = [row.id for row in rows]
        await transaction.execute(_RESTORED, {"batch_id": batch_id, "ids": back})
        await transaction.execute(_COUNTED, {"batch_id": batch_id, "restored": len(back)})
        return back, dict.fromkeys(set(ids).difference(back), "a trigger or a rule of the table discarded it")
    if len(ids) == 1:
        return (), {ids[0]: reason}
    restored: list[int] = []
    reasons: dict[int, str] = {}
    for task in ids:
        alone, why = await put_back(transaction, app, batch_id, [task], columns)
        restored += alone
        reasons |= why
    return restored, reasons


def _insert(app: str, columns: Sequence[str]) -> str:
    names = [column(name) for name in columns]
    # OVERRIDING: tasks get their archived ids back, even if the column is GENERATED ALWAYS AS IDENTITY.
    return f"""
        INSERT INTO {app}.tasks AS t ({", ".join(names)}) OVERRIDING SYSTEM VALUE
        SELECT {", ".join(f"r.{name}" for name in names)}
        FROM taskbell.archived_task AS a,
            LATERAL jsonb_populate_record(CAST(NULL AS {app}.tasks), a.row) AS r
        WHERE a.batch_id = :batch_id AND a.task_id = ANY(CAST(:ids AS bigint[]))
        ORDER BY a.task_id
        RETURNING t.id
    """
