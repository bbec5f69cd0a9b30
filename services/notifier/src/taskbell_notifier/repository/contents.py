"""What mails are made of: for a claimed batch its people, for those their tasks; for a report its row.

Lists are cut in SQL and counted there, so that somebody with a hundred thousand tasks costs no more than anybody else.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import Row

from taskbell.contracts import MailKind
from taskbell.database import Transaction
from taskbell_notifier.domain import PENDING, URGENCY, Overdue, Reminder, Selection, Task, Weekly
from taskbell_notifier.lifecycle import Claimed
from taskbell_notifier.mail.content import LISTED, WEEK_LISTED, WEEK_OVERDUE_LISTED
from taskbell_notifier.mail.report import ReportFigures, read_report

REPORT = "SELECT date, as_of, body::text AS body FROM taskbell.report WHERE date = :date"

OVERDUE = "t.due_date < CAST(:at AS timestamptz)"
DAY = "t.due_date >= CAST(:at AS timestamptz) AND t.due_date < CAST(:at AS timestamptz) + interval '24 hours'"
WEEK = "t.due_date >= CAST(:at AS timestamptz) AND t.due_date < CAST(:at AS timestamptz) + interval '168 hours'"


@dataclass(frozen=True, slots=True)
class Person:
    """The addressee of a row, as the tables say now."""

    exists: bool
    name: str
    email: str | None
    timezone: str | None
    locale: str | None
    is_active: bool
    wants: bool
    """No preference against this kind of mail."""
    suppressed: str | None
    """Why nothing may be sent to the address."""


class Listed(NamedTuple):
    """The first tasks of a list, and how many there are besides."""

    tasks: tuple[Task, ...]
    more: int


NOTHING = Listed((), 0)


class Material:
    """The statements, for the web app's tables in that schema."""

    def __init__(self, app: str) -> None:
        self._people = f"""
            SELECT c.delivery_id, u.id IS NOT NULL OR c.user_id IS NULL AS found, u.name, a.address AS email,
                u.timezone, u.locale, u.is_active, p.enabled, s.reason AS suppressed
            FROM unnest(
                CAST(:deliveries AS bigint[]), CAST(:users AS bigint[]), CAST(:kinds AS text[]),
                CAST(:addresses AS text[])
            ) AS c (delivery_id, user_id, kind, address)
            LEFT JOIN {app}.users AS u ON u.id = c.user_id
            CROSS JOIN LATERAL (SELECT CASE WHEN c.user_id IS NULL THEN c.address ELSE u.email END AS address) AS a
            LEFT JOIN taskbell.preference AS p ON p.user_id = c.user_id AND p.kind = c.kind
            LEFT JOIN taskbell.suppression AS s ON s.address = lower(btrim(a.address))
        """
        self._overdue = _list(app, OVERDUE)
        self._day = _list(app, DAY)
        self._week = _list(app, WEEK)
        self._weekly = f"""
            SELECT w.id AS user_id, o.pending, o.in_progress, c.completed
            FROM unnest(CAST(:users AS bigint[])) AS w (id)
            CROSS JOIN LATERAL (
                SELECT count(*) FILTER (WHERE CAST(t.status AS text) = 'pending') AS pending,
                    count(*) FILTER (WHERE CAST(t.status AS text) = 'in_progress') AS in_progress
                FROM {app}.tasks AS t
                WHERE t.assignee_id = w.id AND CAST(t.status AS text) IN ('pending', 'in_progress')
            ) AS o
            CROSS JOIN LATERAL (
                SELECT count(*) AS completed FROM {app}.tasks AS t
                WHERE t.assignee_id = w.id AND CAST(t.status AS text) = 'done'
                    AND t.completed_at >= CAST(:at AS timestamptz) - interval '168 hours'
                    AND t.completed_at < CAST(:at AS timestamptz)
            ) AS c
        """

    async def people(self, tx: Transaction, rows: Sequence[Claimed]) -> Mapping[int, Person]:
        """The addressees of claimed rows, by delivery id."""
        found = await tx.rows(
            self._people,
            {
                "deliveries": [row.id for row in rows],
                "users": [row.user_id for row in rows],
                "kinds": [row.kind.value for row in rows],
                "addresses": [row.address for row in rows],
            },
        )
        return {row.delivery_id: _person(row) for row in found}

    async def selections(
        self, tx: Transaction, kind: MailKind, at: datetime, users: Sequence[int]
    ) -> Mapping[int, Selection]:
        """What there is to say to each of these users at T; who is missing has nothing to be told."""
        if kind is MailKind.WEEKLY:
            return await self._weeks(tx, at, users)
        if kind is MailKind.OVERDUE:
            found = await self._lists(tx, self._overdue, at, users, LISTED)
            return {user: Overdue(its.tasks, its.more) for user, its in found.items()}
        found = await self._lists(tx, self._day, at, users, LISTED)
        return {user: Reminder(its.tasks, its.more) for user, its in found.items()}

    async def report(self, tx: Transaction, day: date) -> ReportFigures | None:
        """The stored report of that date."""
        row = await tx.row(REPORT, {"date": day})
        return None if row is None else read_report(row.date, row.as_of, json.loads(row.body))

    async def _weeks(self, tx: Transaction, at: datetime, users: Sequence[int]) -> Mapping[int, Selection]:
        overdue = await self._lists(tx, self._overdue, at, users, WEEK_OVERDUE_LISTED)
        upcoming = await self._lists(tx, self._week, at, users, WEEK_LISTED)
        weeks: dict[int, Selection] = {}
        for row in await tx.rows(self._weekly, {"users": list(users), "at": at}):
            if row.pending or row.in_progress or row.completed:
                late, soon = overdue.get(row.user_id, NOTHING), upcoming.get(row.user_id, NOTHING)
                weeks[row.user_id] = Weekly(
                    pending=row.pending,
                    in_progress=row.in_progress,
                    completed=row.completed,
                    overdue=late.tasks,
                    upcoming=soon.tasks,
                    more_overdue=late.more,
                    more_upcoming=soon.more,
                )
        return weeks

    async def _lists(
        self, tx: Transaction, statement: str, at: datetime, users: Sequence[int], limit: int
    ) -> dict[int, Listed]:
        lists: dict[int, list[Task]] = {}
        counts: dict[int, int] = {}
        for row in await tx.rows(statement, {"users": list(users), "at": at, "limit": limit}):
            lists.setdefault(row.user_id, []).append(_task(row))
            counts[row.user_id] = row.found
        return {user: Listed(tuple(tasks), counts[user] - len(tasks)) for user, tasks in lists.items()}


def _list(app: str, due: str) -> str:
    urgency = " ".join(f"WHEN '{priority}' THEN {rank}" for priority, rank in URGENCY.items())
    order = f"t.due_date, CASE CAST(t.priority AS text) {urgency} ELSE {len(URGENCY)} END, t.id"
    return f"""
        SELECT w.id AS user_id, l.*, p.name AS project
        FROM unnest(CAST(:users AS bigint[])) AS w (id)
        CROSS JOIN LATERAL (
            SELECT t.id, left(t.title, 10000) AS title, CAST(t.status AS text) AS status,
                CAST(t.priority AS text) AS priority, t.project_id,
                greatest(t.due_date, CAST('0001-01-02Z' AS timestamptz)) AS due_date,
                count(*) OVER () AS found, row_number() OVER (ORDER BY {order}) AS place
            FROM {app}.tasks AS t
            WHERE t.assignee_id = w.id AND CAST(t.status AS text) IN ('pending', 'in_progress') AND {due}
            ORDER BY {order}
            LIMIT :limit
        ) AS l
        LEFT JOIN {app}.projects AS p ON p.id = l.project_id
        ORDER BY w.id, l.place
    """
    # Python has no datetime for what lies before the year 1, and one row of it would fail the statement.


def _person(row: Row[Any]) -> Person:
    return Person(
        exists=row.found,
        name=row.name or "",
        email=row.email,
        timezone=row.timezone,
        locale=row.locale,
        is_active=bool(row.is_active),
        wants=row.enabled is not False,
        suppressed=row.suppressed,
    )


def _task(row: Row[Any]) -> Task:
    return Task(
        id=row.id,
        title=row.title or "",
        project=row.project,
        status=row.status or PENDING,
        priority=row.priority,
        due_date=row.due_date,
        completed_at=None,  # these are open tasks
    )
