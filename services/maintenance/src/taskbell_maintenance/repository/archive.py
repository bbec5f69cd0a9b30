"""SQL of cleanups: finds old tasks, and takes them out of the app's table page by page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

from taskbell.database import Transaction
from taskbell.errors import Retry, TaskbellError
from taskbell_maintenance.domain import PAGE_SIZE, Page, Survey
from taskbell_maintenance.repository.batches import Batch
from taskbell_maintenance.repository.locks import TaskLocks
from taskbell_maintenance.repository.names import column, of_app
from taskbell_maintenance.repository.refusals import is_locked, refused

WINDOW = 10 * PAGE_SIZE
"""How many tasks, old or not, one transaction examines at most: a page must not take longer because few are old."""

LOCK_TIMEOUT = "100ms"
"""How long a cleanup waits for a row: so briefly that it delays nobody, and ends before it could be in a deadlock."""

LOCK_TIMEOUT_EACH = "10ms"
"""The same if tasks are deleted one by one; a deletion may have to wait for rows of other tables."""

BUSY = "another transaction has it locked"
DISCARDED = "a trigger or a rule of the table kept it"

# With synchronous_commit off, the commit does not wait for the disk. Task, archive row and cursor are lost together or
# not at all, and the outcome is committed after them in the usual way, which brings them to the disk, too.
_PREPARE = """
    SELECT set_config('lock_timeout', :limit, true), set_config('synchronous_commit', 'off', true),
        ARRAY(
            SELECT CAST(a.attname AS text) FROM pg_catalog.pg_constraint AS c
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
            WHERE c.contype = 'f' AND c.confdeltype = 'c' AND c.confrelid = c.conrelid AND cardinality(c.conkey) = 1
                AND c.conrelid = to_regclass(:tasks)
        ) AS parent_columns
"""

_OLD = """
    CAST(t.status AS text) = 'done'
    AND coalesce(t.completed_at, t.updated_at) < CAST(:cutoff AS timestamptz)
"""

_SURVEY = f"SELECT count(*) AS every, count(*) FILTER (WHERE {_OLD}) AS old FROM {{app}}.tasks AS t"

_WINDOW = f"""
    SELECT t.id, t.status, t.completed_at, t.updated_at FROM {{app}}.tasks AS t
    WHERE t.id > CAST(:cursor AS bigint) ORDER BY t.id LIMIT {WINDOW}
"""

_END_OF_WINDOW = f"SELECT coalesce(max(t.id), CAST(:cursor AS bigint)) FROM ({_WINDOW}) AS t"

_WINDOW_IS_LAST = f"SELECT count(*) < {WINDOW} FROM ({_WINDOW}) AS t"

# Old tasks are first found and then locked, because a single SELECT would lock every row of the window.
_LOCK = f"""
    WITH found AS MATERIALIZED (
        SELECT CAST(array_agg(w.id) AS bigint[]) AS ids
        FROM (SELECT t.id FROM ({_WINDOW}) AS t WHERE {_OLD} ORDER BY t.id LIMIT :size) AS w
    ), locked AS (
        SELECT t.id FROM {{app}}.tasks AS t
        WHERE t.id = ANY(CAST((SELECT ids FROM found) AS bigint[])) AND {_OLD}
        ORDER BY t.id {{lock}}
    )
    SELECT ids AS found, ARRAY(SELECT id FROM locked) AS locked,
        CASE WHEN cardinality(ids) = :size THEN ids[cardinality(ids)] ELSE ({_END_OF_WINDOW}) END AS cursor,
        CASE WHEN cardinality(ids) = :size THEN false ELSE ({_WINDOW_IS_LAST}) END AS last
    FROM found
"""

_STILL_OLD = f"SELECT t.id FROM {{app}}.tasks AS t WHERE t.id = ANY(CAST(:ids AS bigint[])) AND {_OLD}"

_GONE = "DELETE FROM {app}.tasks AS t WHERE t.id = ANY(CAST(:ids AS bigint[])) RETURNING t.id"

_DELETE = f"WITH gone AS ({_GONE}) SELECT ARRAY(SELECT id FROM gone)"

_MOVE = f"""
    WITH gone AS ({_GONE}, to_jsonb(t.*) AS row), kept AS (
        INSERT INTO taskbell.archived_task (batch_id, task_id, row)
        SELECT CAST(:batch_id AS bigint), gone.id, gone.row FROM gone
    )
    SELECT ARRAY(SELECT id FROM gone)
"""


REASON = 1_000
"""Characters of a reason that are read: the error of a trigger may quote a whole row."""


def _one_by_one(statement: str) -> str:
    """A PL/pgSQL block that runs the statement for each id, in a subtransaction, and stores the reasons of failures.

    It runs in the server, because a table in which every second task is held would otherwise need thousands of round
    trips for a page. A DO block has neither parameters nor a result, so both are passed as settings of the transaction.
    """
    return f"""
        DO $block$
        DECLARE
            _task bigint;
            _held jsonb := '{{}}';
        BEGIN
            FOREACH _task IN ARRAY CAST(current_setting('taskbell.ids') AS bigint[]) LOOP
                BEGIN
                    {statement};
                    IF NOT FOUND THEN
                        _held := _held || jsonb_build_object(_task, '{DISCARDED}');
                    END IF;
                EXCEPTION
                    WHEN integrity_constraint_violation OR data_exception OR triggered_data_change_violation
                        OR with_check_option_violation OR triggered_action_exception OR plpgsql_error
                        OR lock_not_available THEN
                        _held := _held || jsonb_build_object(_task, left(SQLERRM, {REASON}));
                END;
            END LOOP;
            PERFORM set_config('taskbell.held', CAST(_held AS text), true);
        END
        $block$
    """


_DELETE_EACH = _one_by_one("DELETE FROM {app}.tasks AS t WHERE t.id = _task")

_MOVE_EACH = _one_by_one("""
    WITH gone AS (DELETE FROM {app}.tasks AS t WHERE t.id = _task RETURNING t.id, to_jsonb(t.*) AS row)
    INSERT INTO taskbell.archived_task (batch_id, task_id, row)
    SELECT CAST(current_setting('taskbell.batch') AS bigint), gone.id, gone.row FROM gone
""")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page of a cleanup to take.

    Attributes:
        cursor: the page begins after this task id.
        size: how many tasks it takes at most.
        batch: the batch that gets the tasks; None for a dry run, which is rolled back.
        carefully: take the tasks one by one if necessary, and leave those that cannot be taken, with the reason.
    """

    cutoff: datetime
    cursor: int
    size: int
    batch: Batch | None
    carefully: bool


class Obstructed(TaskbellError):
    """A task of the page cannot be taken; the page must be taken carefully, in another transaction."""


async def survey(transaction: Transaction, app: str, cutoff: datetime) -> Survey:
    """Counts all tasks, and the old ones."""
    row = await transaction.row(of_app(_SURVEY, app), {"cutoff": cutoff})
    assert row is not None  # an aggregate always has its row
    return Survey(row.every, row.old)


async def take(transaction: Transaction, locks: TaskLocks, request: PageRequest) -> Page:
    """Takes a page of old tasks out of the app's table, and into its batch if the batch archives them.

    Raises:
        Obstructed: a task cannot be taken; only if the page is not to be taken carefully.
        Retry: the tables below a view stayed locked; only if the page is to be taken carefully.
    """
    prepared = await transaction.row(_PREPARE, {"limit": LOCK_TIMEOUT, "tasks": f"{locks.app}.tasks"})
    assert prepared is not None  # a SELECT without FROM always has its row
    try:
        some = await _lock_old(transaction, locks, request)
        locked: list[int] = some.locked
        held = await _busy(transaction, locks.app, request, some.found or (), locked) if request.carefully else {}
        held |= await _parents_of_others(transaction, locks.app, locked, prepared.parent_columns)
        ids = [task for task in locked if task not in held] if held else locked
        gone: Sequence[int] = ()
        if ids:
            await transaction.execute("SET CONSTRAINTS ALL IMMEDIATE")
            gone, why = await _remove(transaction, locks.app, request, ids)
            held |= why
    except DBAPIError as error:
        if request.carefully and is_locked(error):
            msg = f"other transactions locked the tables below the view tasks for more than {LOCK_TIMEOUT}"
            raise Retry(msg) from error
        if request.carefully or not (is_locked(error) or refused(error)):
            raise
        raise Obstructed from error
    return Page(some.cursor, len(gone), held, some.last)


async def _lock_old(transaction: Transaction, locks: TaskLocks, request: PageRequest) -> Row[Any]:
    """Finds the page's old tasks, and locks those that are still old: found, locked, cursor, last."""
    known = {"cutoff": request.cutoff, "cursor": request.cursor, "size": request.size}
    row: Row[Any] = await locks.row(transaction, _LOCK, known, skip=request.carefully)
    return row


async def _busy(
    transaction: Transaction, app: str, request: PageRequest, found: Sequence[int], locked: Sequence[int]
) -> dict[int, str]:
    """The tasks that others have locked and that, as far as we can see, are still old."""
    missing = sorted(set(found).difference(locked))
    if not missing:
        return {}
    rows = await transaction.rows(of_app(_STILL_OLD, app), {"ids": missing, "cutoff": request.cutoff})
    return {row.id: BUSY for row in rows}


async def _parents_of_others(
    transaction: Transaction, app: str, ids: Sequence[int], columns: Sequence[str]
) -> dict[int, str]:
    """Those of these tasks whose deletion would, by ON DELETE CASCADE, delete a task that is not among them."""
    held: dict[int, str] = {}
    for name in columns:
        parent = f"t.{column(name)}"
        statement = f"""
            SELECT DISTINCT {parent} AS id FROM {app}.tasks AS t
            WHERE {parent} = ANY(CAST(:ids AS bigint[])) AND NOT t.id = ANY(CAST(:ids AS bigint[]))
        """
        rest = list(ids)
        while found := {row.id for row in await transaction.rows(statement, {"ids": rest})}:
            held |= dict.fromkeys(found, f"tasks that refer to it by {name} would be deleted with it")
            rest = [task for task in rest if task not in found]
    return held


async def _remove(
    transaction: Transaction, app: str, request: PageRequest, ids: Sequence[int]
) -> tuple[Sequence[int], Mapping[int, str]]:
    """Removes these tasks; returns those that are gone, and why others are not."""
    batch = request.batch if request.batch and request.batch.mode == "archive" else None
    statement = of_app(_MOVE if batch else _DELETE, app)
    known = {"ids": ids} | ({"batch_id": batch.id} if batch else {})
    if not request.carefully:
        gone = await transaction.value(statement, known)
    else:
        try:
            async with transaction.connection.begin_nested():
                gone = await transaction.value(statement, known)
        except DBAPIError as error:
            # The locked row may be one of another table, which refers to the task or is deleted with it.
            if refused(error) is None and not is_locked(error):
                raise
            return await _remove_each(transaction, app, batch, ids)
    return gone, dict.fromkeys(set(ids).difference(gone), DISCARDED) if len(gone) < len(ids) else {}


async def _remove_each(
    transaction: Transaction, app: str, batch: Batch | None, ids: Sequence[int]
) -> tuple[Sequence[int], Mapping[int, str]]:
    await transaction.execute(
        "SELECT set_config('taskbell.ids', CAST(CAST(:ids AS bigint[]) AS text), true),"
        " set_config('taskbell.batch', :batch, true), set_config('lock_timeout', :limit, true)",
        {"ids": ids, "batch": str(batch.id) if batch else "", "limit": LOCK_TIMEOUT_EACH},
    )
    await transaction.execute(of_app(_MOVE_EACH if batch else _DELETE_EACH, app))
    held = json.loads(await transaction.value("SELECT current_setting('taskbell.held')"))
    reasons = {int(task): " ".join(reason.split())[:500] for task, reason in held.items()}
    return [task for task in ids if task not in reasons], reasons
