"""All SQL of the daily report."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Row

from taskbell import cuts
from taskbell.database import Transaction
from taskbell_maintenance.repository.names import of_app

DAY = timedelta(hours=24)

VALUES = 100
"""How many different statuses, and how many unknown priorities, are counted by name at most. The most frequent win."""

PROJECTS = 200
"""How many projects are listed at most, those with the most open tasks first."""

OLDEST = 10
"""How many of the oldest overdue tasks are listed."""

TEXT = 300
"""Characters of a title or a project's name that are kept, at most."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts over all tasks at one moment."""

    statuses: Sequence[dict[str, Any]]
    """At most VALUES rows, those of known statuses first: status, tasks, past (due before T), completed (in the 24 h
    before T), low, medium, high, urgent."""
    projects: Sequence[dict[str, Any]]
    """At most PROJECTS rows: project_id, tasks, open, overdue."""
    projects_in_all: int
    tasks: int
    created: int
    """Tasks created in the 24 h before T."""


_MAILS = """
    SELECT kind, state, count(*) AS mails FROM taskbell.delivery
    WHERE ended_at >= CAST(:since AS timestamptz) AND ended_at < CAST(:at AS timestamptz)
    GROUP BY kind, state ORDER BY kind, state
"""

_STORE = """
    INSERT INTO taskbell.report AS r (date, as_of, body, message_id)
    VALUES (:date, CAST(:as_of AS timestamptz), CAST(:body AS jsonb), :message_id)
    ON CONFLICT (date) DO UPDATE
    SET as_of = excluded.as_of, body = excluded.body, message_id = excluded.message_id, generated_at = now()
"""

# One pass over the table. Every worker of a parallel scan can hold all groups, which would be too many if they were
# also by priority. Rows are grouped by the column's own type, and only the groups are cast to text,
# and cut: statuses whose first characters are the same are counted as one.
_COUNTS = f"""
    WITH cells AS MATERIALIZED (
        SELECT t.project_id, t.status, count(*) AS tasks,
            count(*) FILTER (WHERE t.due_date < CAST(:at AS timestamptz)) AS past,
            count(*) FILTER (WHERE t.created_at >= CAST(:since AS timestamptz)
                AND t.created_at < CAST(:at AS timestamptz)) AS created,
            count(*) FILTER (WHERE t.completed_at >= CAST(:since AS timestamptz)
                AND t.completed_at < CAST(:at AS timestamptz)) AS completed,
            count(*) FILTER (WHERE CAST(t.priority AS text) = 'low') AS low,
            count(*) FILTER (WHERE CAST(t.priority AS text) = 'medium') AS medium,
            count(*) FILTER (WHERE CAST(t.priority AS text) = 'high') AS high,
            count(*) FILTER (WHERE CAST(t.priority AS text) = 'urgent') AS urgent
        FROM {{app}}.tasks AS t
        GROUP BY t.project_id, t.status
    ), by_status AS (
        SELECT {cuts.word("status")} AS status, sum(tasks) AS tasks, sum(past) AS past,
            sum(completed) AS completed, sum(low) AS low, sum(medium) AS medium, sum(high) AS high,
            sum(urgent) AS urgent
        FROM cells GROUP BY 1
        ORDER BY coalesce({cuts.word("status")}, '') IN ('pending', 'in_progress', 'done', 'cancelled') DESC,
            2 DESC
        LIMIT {VALUES}
    ), by_project AS (
        SELECT project_id, sum(tasks) AS tasks, coalesce(sum(tasks) FILTER (WHERE open), 0) AS open,
            coalesce(sum(past) FILTER (WHERE open), 0) AS overdue
        FROM (SELECT *, CAST(status AS text) IN ('pending', 'in_progress') AS open FROM cells) AS cells
        GROUP BY 1
    )
    SELECT
        (SELECT json_agg(s) FROM by_status AS s) AS statuses,
        (SELECT json_agg(p) FROM (
            SELECT * FROM by_project ORDER BY open DESC, project_id LIMIT {PROJECTS}
        ) AS p) AS projects,
        (SELECT count(*) FROM by_project) AS projects_in_all,
        (SELECT coalesce(sum(tasks), 0) FROM cells) AS tasks,
        (SELECT coalesce(sum(created), 0) FROM cells) AS created
"""

_OTHER_PRIORITIES = f"""
    SELECT {cuts.word("t.priority")} AS priority, count(*) AS tasks FROM {{app}}.tasks AS t
    WHERE coalesce(CAST(t.priority AS text), '') NOT IN ('low', 'medium', 'high', 'urgent')
    GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {VALUES}
"""

_NAMES = (
    f"SELECT p.id, left(p.name, {TEXT}) AS name FROM {{app}}.projects AS p WHERE p.id = ANY(CAST(:ids AS bigint[]))"
)

# greatest(): Python has no datetime for times before the year 1, and one such row would fail the statement.
_OLDEST = f"""
    SELECT t.id, left(t.title, {TEXT}) AS title, {cuts.word("t.status")} AS status,
        {cuts.word("t.priority")} AS priority, t.project_id,
        greatest(t.due_date, CAST('0001-01-02Z' AS timestamptz)) AS due_date
    FROM {{app}}.tasks AS t
    WHERE CAST(t.status AS text) IN ('pending', 'in_progress') AND t.due_date < CAST(:at AS timestamptz)
    ORDER BY t.due_date, t.id LIMIT {OLDEST}
"""


async def counts(transaction: Transaction, app: str, at: datetime) -> Counts:
    """Counts all tasks in one pass."""
    row = await transaction.row(of_app(_COUNTS, app), {"at": at, "since": at - DAY})
    assert row is not None  # a SELECT of aggregates always has its row
    return Counts(_list(row.statuses), _list(row.projects), row.projects_in_all, int(row.tasks), int(row.created))


async def other_priorities(transaction: Transaction, app: str) -> Sequence[Row[Any]]:
    """Counts tasks whose priority we do not know: priority, tasks."""
    return await transaction.rows(of_app(_OTHER_PRIORITIES, app))


async def project_names(transaction: Transaction, app: str, ids: Sequence[int]) -> dict[int, str | None]:
    """The names of these projects."""
    rows = await transaction.rows(of_app(_NAMES, app), {"ids": ids})
    return {row.id: row.name for row in rows}


async def oldest_overdue(transaction: Transaction, app: str, at: datetime) -> Sequence[Row[Any]]:
    """The open tasks that were due first, before `at`: id, title, status, priority, due_date, project_id."""
    return await transaction.rows(of_app(_OLDEST, app), {"at": at})


async def mails(transaction: Transaction, at: datetime) -> dict[str, dict[str, int]]:
    """Mails that ended in the 24 h before `at`, by kind and outcome."""
    mails: dict[str, dict[str, int]] = {}
    for row in await transaction.rows(_MAILS, {"at": at, "since": at - DAY}):
        mails.setdefault(row.kind, {})[row.state] = row.mails
    return mails


async def store(transaction: Transaction, day: date, as_of: datetime, body: dict[str, Any], message_id: str) -> None:
    """Stores a day's report, and replaces an existing one."""
    text = json.dumps(body, ensure_ascii=False)
    await transaction.execute(_STORE, {"date": day, "as_of": as_of, "body": text, "message_id": message_id})


def _list(aggregate: Any) -> list[dict[str, Any]]:
    """The rows of a json_agg, which is null if there are none, and may come from the driver as text."""
    found: list[dict[str, Any]] = json.loads(aggregate) if isinstance(aggregate, str) else aggregate or []
    return found
