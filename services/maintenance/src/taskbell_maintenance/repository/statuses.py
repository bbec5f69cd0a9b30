"""SQL of status updates.

The app's table may be a view, its ids integer or bigint, its statuses text or an enum: statements cast what they
compare, and never name a type of the app's schema.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy.exc import DBAPIError

from taskbell import cuts
from taskbell.database import Transaction
from taskbell.errors import Retry, TaskbellError
from taskbell_maintenance.domain import StatusChange
from taskbell_maintenance.repository.locks import TaskLocks
from taskbell_maintenance.repository.names import of_app
from taskbell_maintenance.repository.refusals import is_locked, refused


class Refused(TaskbellError):
    """The app's table refused a change, which has aborted the transaction."""


LONGEST_STATUS = 1_000
"""Characters of a status that are read, as many as an event may hold: the app's table may hold longer texts."""

LOCK_TIMEOUT = "2s"
"""How long a set of status updates waits for a row that another transaction has locked."""


_STATUSES = f"""
    SELECT t.id, {cuts.word("t.status", LONGEST_STATUS)} AS status
    FROM {{app}}.tasks AS t
    WHERE t.id = ANY(CAST(:ids AS bigint[]))
    ORDER BY t.id {{lock}}
"""

# By way of jsonb, a text becomes whatever type the column has. The time is that of the statement: that of the
# transaction may be earlier than changes for whose locks it waited.
_CHANGE = f"""
    UPDATE {{app}}.tasks AS t
    SET status = (jsonb_populate_record(t, jsonb_build_object('status', c.status))).status,
        updated_at = statement_timestamp(),
        completed_at = CASE c.completion
            WHEN 'set' THEN statement_timestamp() WHEN 'clear' THEN NULL ELSE t.completed_at END
    FROM unnest(CAST(:ids AS bigint[]), CAST(:statuses AS text[]), CAST(:completions AS text[]))
        AS c (id, status, completion)
    WHERE t.id = c.id
    RETURNING t.id, {cuts.word("t.status", LONGEST_STATUS)} AS status
"""


async def lock_statuses(transaction: Transaction, locks: TaskLocks, ids: Sequence[int]) -> dict[int, str | None]:
    """Locks these tasks in the order of their ids; returns the statuses of those that exist.

    Raises:
        Retry: another transaction has locked one of them for longer than LOCK_TIMEOUT.
    """
    try:
        await transaction.execute("SELECT set_config('lock_timeout', :limit, true)", {"limit": LOCK_TIMEOUT})
        rows = await locks.rows(transaction, _STATUSES, {"ids": sorted(ids)})
    except DBAPIError as error:
        if not is_locked(error):
            raise
        msg = f"a task has been locked by another transaction for more than {LOCK_TIMEOUT}"
        raise Retry(msg) from error
    return {row.id: row.status for row in rows}


async def change_statuses(
    transaction: Transaction, app: str, changes: Sequence[StatusChange]
) -> Mapping[int, str | None]:
    """Gives locked tasks their new statuses, at most one change for each; returns the statuses that they now have.

    If a task is missing in the result, a trigger or a rule has discarded its change.

    Raises:
        Refused: the table refuses one of the changes; `change_statuses_apart`, in a new transaction, finds which.
    """
    try:
        return await _write(transaction, app, changes)
    except DBAPIError as error:
        if refused(error) is None:
            raise
        raise Refused from error


async def change_statuses_apart(
    transaction: Transaction, app: str, changes: Sequence[StatusChange]
) -> tuple[Mapping[int, str | None], Mapping[int, str]]:
    """Makes each change after a savepoint, at two round trips each; also returns why changes were refused."""
    written: dict[int, str | None] = {}
    reasons: dict[int, str] = {}
    for change in changes:
        try:
            async with transaction.connection.begin_nested():
                written |= await _write(transaction, app, [change])
        except DBAPIError as error:
            if (reason := refused(error)) is None:
                raise
            reasons[change.task_id] = reason
    return written, reasons


async def _write(transaction: Transaction, app: str, changes: Sequence[StatusChange]) -> dict[int, str | None]:
    rows = await transaction.rows(
        of_app(_CHANGE, app),
        {
            "ids": [change.task_id for change in changes],
            "statuses": [change.new for change in changes],
            "completions": [change.completion for change in changes],
        },
    )
    return {row.id: row.status for row in rows}
