"""Reads what mails are made of: the people of a claimed batch and their tasks, or the row of a report.

SQL cuts the lists and counts the rest, so that a user with a hundred thousand tasks costs no more than any other.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Protocol, assert_never

from sqlalchemy import Row

from taskbell import cuts
from taskbell.database import Transaction
from taskbell.kinds import (
    AssignedTasks,
    Completed,
    Found,
    Kind,
    Listed,
    NamedTask,
    NoContent,
    Open,
    Rows,
    Statement,
    StoredReport,
    Task,
)
from taskbell_notifier.addresses import other_spellings
from taskbell_notifier.domain import PENDING, URGENCY
from taskbell_notifier.lifecycle import Claimed
from taskbell_notifier.mail.figures import ReportFigures, read_report
from taskbell_notifier.repository.conditions import OPEN, predicate
from taskbell_notifier.repository.statements import Event, event_of, rows_of_events, rows_of_users


class Wanted(Protocol):
    """A mail whose content is to be read: a claimed row, or one that is only to be shown."""

    @property
    def id(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def user_id(self) -> int | None: ...
    @property
    def at(self) -> datetime: ...
    @property
    def props(self) -> Mapping[str, Any]:
        """Of its mailing."""


REPORT = "SELECT date, as_of, body::text AS body FROM taskbell.report WHERE date = :date"


@dataclass(frozen=True, slots=True)
class Person:
    """The addressee of a row, as the tables are now."""

    exists: bool
    name: str
    email: str | None
    timezone: str | None
    locale: str | None
    is_active: bool
    wants: bool
    """No preference against this kind of mail."""
    suppressed: str | None
    """Why nothing may be sent to the address; None: it is not suppressed."""


PEOPLE = f"""
    SELECT c.delivery_id, u.id IS NOT NULL OR c.user_id IS NULL AS found, {cuts.name("u.name")} AS name,
        a.address AS email, {cuts.word("u.timezone")} AS timezone, {cuts.word("u.locale")} AS locale,
        u.is_active, p.enabled, s.reason AS suppressed
    FROM unnest(
        CAST(:deliveries AS bigint[]), CAST(:users AS bigint[]), CAST(:kinds AS text[]),
        CAST(:addresses AS text[])
    ) AS c (delivery_id, user_id, kind, address)
    LEFT JOIN {{app}}.users AS u ON u.id = c.user_id
    CROSS JOIN LATERAL (
        SELECT CASE WHEN c.user_id IS NULL THEN c.address ELSE {cuts.email("u.email")} END AS address
    ) AS a
    LEFT JOIN taskbell.preference AS p ON p.user_id = c.user_id AND p.kind = c.kind
    LEFT JOIN taskbell.suppression AS s ON s.address = lower(btrim(a.address))
"""

# The statement above finds an address under the form that the table has, if that is its only one.
SUPPRESSED = """
    SELECT w.delivery_id, s.reason
    FROM unnest(CAST(:deliveries AS bigint[]), CAST(:addresses AS text[])) AS w (delivery_id, address)
    JOIN taskbell.suppression AS s ON s.address = lower(w.address)
"""

# Python's datetime begins with year 1, and one row with an earlier date would fail the whole statement. It ends with
# year 9999, which matters where no condition sets a limit.
DUE_DATE = "greatest(t.due_date, CAST('0001-01-02Z' AS timestamptz))"

NAMED = f"""
    SELECT c.delivery_id, t.id, {cuts.name("t.title")} AS title, {cuts.word("t.status")} AS status,
        {cuts.word("t.priority")} AS priority, {cuts.name("p.name")} AS project,
        CASE WHEN t.due_date IS NOT NULL THEN least({DUE_DATE}, CAST('9999-12-30Z' AS timestamptz)) END AS due_date
    FROM unnest(CAST(:deliveries AS bigint[]), CAST(:users AS bigint[]), CAST(:tasks AS bigint[]))
        AS c (delivery_id, user_id, task_id)
    JOIN {{app}}.tasks AS t ON t.id = c.task_id AND t.assignee_id = c.user_id AND {OPEN}
    LEFT JOIN {{app}}.projects AS p ON p.id = t.project_id
"""


async def people(transaction: Transaction, app: str, rows: Sequence[Claimed]) -> Mapping[int, Person]:
    """The addressees of claimed rows, by delivery id."""
    found = await transaction.rows(
        PEOPLE.format(app=app),
        {
            "deliveries": [row.id for row in rows],
            "users": [row.user_id for row in rows],
            "kinds": [row.kind for row in rows],
            "addresses": [row.address for row in rows],
        },
    )
    people = {row.delivery_id: _person(row) for row in found}
    others = [(number, form) for number, it in people.items() for form in other_spellings(it.email)]
    if others:
        parameters = {"deliveries": [number for number, _ in others], "addresses": [form for _, form in others]}
        for row in await transaction.rows(SUPPRESSED, parameters):
            people[row.delivery_id] = replace(people[row.delivery_id], suppressed=row.reason)
    return people


async def contents(
    transaction: Transaction, app: str, kinds: Mapping[str, Kind], rows: Sequence[Wanted]
) -> Mapping[int, object]:
    """The contents of these mails, by delivery id; a mail that is missing has nothing to say.

    Mails of a kind that is not installed are left out.

    Raises:
        StatementError: a package's statement does not select what it has to, or does what it must not.
    """
    by_kind: dict[str, list[Wanted]] = {}
    for row in rows:
        if row.kind in kinds:
            by_kind.setdefault(row.kind, []).append(row)
    content: dict[int, object] = {}
    for name, theirs in by_kind.items():
        content |= await _of_kind(transaction, app, kinds[name], theirs)
    return content


async def _of_kind(transaction: Transaction, app: str, kind: Kind, rows: Sequence[Wanted]) -> Mapping[int, object]:
    match kind.what:
        case NamedTask():
            return await _named_tasks(transaction, app, rows)
        case StoredReport():
            days = {report_date(row) for row in rows}
            reports = {day: found for day in days if (found := await report(transaction, day)) is not None}
            return {row.id: reports[day] for row in rows if (day := report_date(row)) in reports}
        case Statement() if kind.is_instant:
            return await rows_of_events(transaction, app, kind, rows)
        case AssignedTasks() | Statement():
            return await _of_mailings(transaction, app, kind, rows)
        case NoContent():
            return {row.id: None for row in rows}
        case _:
            assert_never(kind.what)


async def _of_mailings(transaction: Transaction, app: str, kind: Kind, rows: Sequence[Wanted]) -> Mapping[int, object]:
    mailings: dict[tuple[datetime, str], list[Wanted]] = {}
    for row in rows:
        mailings.setdefault((row.at, json.dumps(event_of(row.props))), []).append(row)
    content: dict[int, object] = {}
    for (at, _), theirs in mailings.items():
        users = {row.id: row.user_id for row in theirs if row.user_id is not None}
        found = await of_users(transaction, app, kind, at, list({*users.values()}), event_of(theirs[0].props))
        content |= {number: found[user] for number, user in users.items() if user in found}
    return content


async def of_users(
    transaction: Transaction, app: str, kind: Kind, at: datetime, users: Sequence[int], event: Event | None = None
) -> Mapping[int, Found | Rows]:
    """The contents of a planned kind's mails at T, by user id; a user who is missing would get no mail."""
    if isinstance(kind.what, AssignedTasks):
        return await _assigned(transaction, app, kind.what, at, users)
    return await rows_of_users(transaction, app, kind, at, users, event or {})


async def report(transaction: Transaction, day: date) -> ReportFigures | None:
    """The stored report of that date; None: there is none."""
    row = await transaction.row(REPORT, {"date": day})
    return None if row is None else read_report(row.date, row.as_of, json.loads(row.body))


def report_date(row: Wanted) -> date:
    """The date of the report that a row stands for."""
    return date.fromisoformat(row.props["date"])


async def _named_tasks(transaction: Transaction, app: str, rows: Sequence[Wanted]) -> Mapping[int, Task]:
    found = await transaction.rows(
        NAMED.format(app=app),
        {
            "deliveries": [row.id for row in rows],
            "users": [row.user_id for row in rows],
            "tasks": [row.props.get("task_id") for row in rows],
        },
    )
    return {row.delivery_id: _task(row) for row in found}


async def _assigned(
    transaction: Transaction, app: str, what: AssignedTasks, at: datetime, users: Sequence[int]
) -> Mapping[int, Found]:
    lists: dict[int, dict[str, Listed]] = {}
    for name, wanted in what.lists.items():
        statement = list_statement(app, predicate(wanted.condition))
        for user, listed in (await _listed(transaction, statement, at, users, wanted.limit)).items():
            lists.setdefault(user, {})[name] = listed
    counts: dict[int, dict[str, int]] = {}
    if what.counts:
        statement = counts_statement(app, tuple(what.counts.values()))
        for row in await transaction.rows(statement, {"users": list(users), "at": at}):
            if any(row[1:]):
                counts[row.user_id] = dict(zip(what.counts, row[1:], strict=True))
    nothing = dict.fromkeys(what.lists, Listed(()))
    none = dict.fromkeys(what.counts, 0)
    return {user: Found(nothing | lists.get(user, {}), counts.get(user, none)) for user in lists.keys() | counts.keys()}


async def _listed(
    transaction: Transaction, statement: str, at: datetime, users: Sequence[int], limit: int
) -> Mapping[int, Listed]:
    lists: dict[int, list[Task]] = {}
    counts: dict[int, int] = {}
    for row in await transaction.rows(statement, {"users": list(users), "at": at, "limit": limit}):
        lists.setdefault(row.user_id, []).append(_task(row))
        counts[row.user_id] = row.found
    return {user: Listed(tuple(tasks), counts[user] - len(tasks)) for user, tasks in lists.items()}


@lru_cache(maxsize=256)
def list_statement(app: str, condition: str) -> str:
    """Selects, for each of :users, the first :limit tasks that meet the condition, and the number of all."""
    urgency = " ".join(f"WHEN '{priority}' THEN {rank}" for priority, rank in URGENCY.items())
    order = f"t.due_date, CASE CAST(t.priority AS text) {urgency} ELSE {len(URGENCY)} END, t.id"
    return f"""
        SELECT w.id AS user_id, l.*, {cuts.name("p.name")} AS project
        FROM unnest(CAST(:users AS bigint[])) AS w (id)
        CROSS JOIN LATERAL (
            SELECT t.id, {cuts.name("t.title")} AS title, {cuts.word("t.status")} AS status,
                {cuts.word("t.priority")} AS priority, t.project_id,
                {DUE_DATE} AS due_date,
                count(*) OVER () AS found, row_number() OVER (ORDER BY {order}) AS place
            FROM {app}.tasks AS t
            WHERE t.assignee_id = w.id AND {condition}
            ORDER BY {order}
            LIMIT :limit
        ) AS l
        LEFT JOIN {app}.projects AS p ON p.id = l.project_id
        ORDER BY w.id, l.place
    """


@lru_cache(maxsize=64)
def counts_statement(app: str, wanted: tuple[Open | Completed, ...]) -> str:
    """Selects, for each of :users, the wanted counts in order; it reads a user's open tasks once."""
    opened = [(place, it) for place, it in enumerate(wanted) if isinstance(it, Open)]
    laterals = []
    if opened:
        counts = ", ".join(f"count(*) FILTER (WHERE {predicate(it)}) AS c{place}" for place, it in opened)
        laterals.append(f"""(
            SELECT {counts}
            FROM {app}.tasks AS t
            WHERE t.assignee_id = w.id AND {OPEN}
        )""")
    for place, it in enumerate(wanted):
        if isinstance(it, Completed):
            laterals.append(f"""(
            SELECT count(*) AS c{place} FROM {app}.tasks AS t
            WHERE t.assignee_id = w.id AND {predicate(it)}
        )""")
    joined = "".join(f"\n        CROSS JOIN LATERAL {it} AS l{number}" for number, it in enumerate(laterals))
    columns = ", ".join(f"c{place}" for place in range(len(wanted)))
    return f"""
        SELECT w.id AS user_id, {columns}
        FROM unnest(CAST(:users AS bigint[])) AS w (id){joined}
    """


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
        # Only open tasks are listed.
        completed_at=None,
    )
