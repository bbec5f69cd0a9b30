"""Reads what happened to a recipient's mails, for operators."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, RowMapping

from taskbell import cuts
from taskbell.database import Transaction
from taskbell.kinds import Kind, Statement
from taskbell_notifier.addresses import MARKS, MEANT, normal_form, stored_forms
from taskbell_notifier.repository.conditions import OPEN, predicate, statement

# Users whose address may be the one that is looked for, because it begins in the same way once all is dropped that an
# address may have unseen or do without. `read_address` decides.
USERS_AT = f"""
    SELECT id, {cuts.email("email")} AS email FROM {{app}}.users
    WHERE starts_with(lower(translate(email, :marks, :meant)), lower(translate(:start, :marks, :meant)))
"""

PERSON = f"""
    SELECT {cuts.name("u.name")} AS name, {cuts.email("u.email")} AS email, {cuts.word("u.timezone")} AS timezone,
        {cuts.word("u.locale")} AS locale
    FROM {{app}}.users AS u WHERE u.id = CAST(:id AS bigint)
"""

WHY = """
    SELECT d.id, d.kind, d.recipient, d.period, d.run, d.state, d.reason, d.attempts, d.resends,
        d.created_at, d.next_attempt_at, d.lease_until, d.expires_at, d.ended_at, d.mailing_id
    FROM taskbell.delivery AS d
    WHERE d.kind = ANY(CAST(:kinds AS text[])) AND d.recipient = ANY(CAST(:recipients AS text[]))
    ORDER BY d.id DESC
    LIMIT :limit
"""

# A plain DISTINCT would read the whole ledger; here each step reads one entry of the index.
KINDS = """
    WITH RECURSIVE k AS (
        SELECT min(kind) AS kind FROM taskbell.delivery
        UNION ALL
        SELECT (SELECT min(d.kind) FROM taskbell.delivery AS d WHERE d.kind > k.kind) FROM k WHERE k.kind IS NOT NULL
    )
    SELECT kind FROM k WHERE kind IS NOT NULL
"""

USER_STATUS = f"""
    SELECT u.is_active, {cuts.word("u.timezone")} AS timezone, count(t.id) FILTER (WHERE {OPEN}) AS open,
        ARRAY(SELECT kind FROM taskbell.preference WHERE user_id = u.id AND NOT enabled ORDER BY kind) AS opted_out,
        ARRAY[{{found}}]::bigint[] AS found
    FROM {{app}}.users AS u
    LEFT JOIN {{app}}.tasks AS t ON t.assignee_id = u.id
    WHERE u.id = CAST(:id AS bigint)
    GROUP BY u.id, u.is_active, u.timezone
"""

# The row of the zone "*" has the pause of the whole schedule.
SCHEDULES = """
    SELECT s.schedule, o.at, o.status, o.reason, m.kind, m.state, m.planned,
        s.paused OR coalesce(e.paused, false) AS paused, coalesce(s.note, e.note) AS note
    FROM taskbell.schedule_state AS s
    LEFT JOIN taskbell.schedule_state AS e ON e.schedule = s.schedule AND e.zone = '*'
    LEFT JOIN LATERAL (
        SELECT o.at, o.status, o.reason, o.message_id FROM taskbell.occurrence AS o
        WHERE o.schedule = s.schedule AND o.zone = s.zone ORDER BY o.at DESC LIMIT 1
    ) AS o ON true
    LEFT JOIN taskbell.mailing AS m ON m.message_id = o.message_id
    WHERE s.zone = :zone AND s.active
    ORDER BY s.schedule
"""

MAILINGS = """
    SELECT id, message_id, kind, occurrence, timezone, force, state, planned, already, counts::text AS counts, note,
        inserted_at, completed_at
    FROM taskbell.mailing
    WHERE CAST(:message AS text) IS NULL OR message_id = :message
    ORDER BY id DESC
    LIMIT :limit
"""


async def now(transaction: Transaction) -> datetime:
    """The database's clock."""
    moment: datetime = await transaction.value("SELECT now()")
    return moment


async def user_status(
    transaction: Transaction, app: str, user: int, kinds: Sequence[Kind], at: datetime
) -> Row[Any] | None:
    """What a mailing of that moment would read about a user.

    Args:
        kinds: kinds of mail whose `who` is conditions.

    Returns:
        activity, zone, open tasks, the kinds that they opted out of, and in `found` for each of `kinds` how many tasks
        would put them into its mailing; None: there is no such user.
    """
    found = ", ".join(_found(kind) for kind in kinds)
    statement = USER_STATUS.format(app=app, found=found)
    return await transaction.row(statement, {"id": user, "at": at} if kinds else {"id": user})


async def is_found(transaction: Transaction, app: str, user: int, kind: Kind, at: datetime) -> bool:
    """True if the statement of a package's kind selects this user at that moment. The transaction only reads then."""
    assert isinstance(kind.who, Statement), f"who gets {kind.name} is not a statement"
    await transaction.execute("SET LOCAL transaction_read_only = on")
    sql = f"WITH named AS (\n{statement(kind.who, app)}\n) SELECT CAST(:user AS bigint) IN (SELECT * FROM named)"
    return bool(await transaction.value(sql, {"user": user, "at": at, "cursor": user - 1, "last": user}))


def _found(kind: Kind) -> str:
    assert isinstance(kind.who, tuple), f"who gets {kind.name} is not conditions"
    conditions = " OR ".join(f"({predicate(condition)})" for condition in kind.who)
    return f"count(t.id) FILTER (WHERE {conditions})"


async def schedules_in(transaction: Transaction, zone: str) -> Sequence[Row[Any]]:
    """For each schedule in that zone: its last occurrence, the mailing that came of it, and if it is paused now."""
    return await transaction.rows(SCHEDULES, {"zone": zone})


async def newest_mailings(transaction: Transaction, message: str | None, *, limit: int) -> Sequence[RowMapping]:
    """The newest mailings, or the one of that message_id."""
    return await transaction.mappings(MAILINGS, {"message": message, "limit": limit})


async def recipients_at(transaction: Transaction, app: str, address: str) -> Sequence[str]:
    """The recipients in the ledger that an address stands for: itself, and every user who has it now."""
    key = normal_form(address)
    local, at, _ = key.rpartition("@")
    parameters = {"marks": MARKS, "meant": MEANT, "start": f"{local}{at}" or key}
    rows = await transaction.rows(USERS_AT.format(app=app), parameters)
    users = [f"user:{row.id}" for row in rows if normal_form(row.email) == key]
    return [*users, *(f"address:{form}" for form in stored_forms(address))]


async def person(transaction: Transaction, app: str, user: int) -> Row[Any] | None:
    """Name, email, timezone and locale of a user; None: there is no such user."""
    return await transaction.row(PERSON.format(app=app), {"id": user})


async def deliveries_to(
    transaction: Transaction, recipients: Sequence[str], kinds: Sequence[str], *, limit: int
) -> Sequence[RowMapping]:
    """The newest ledger rows of these recipients and kinds."""
    parameters = {"kinds": list(kinds), "recipients": list(recipients), "limit": limit}
    return await transaction.mappings(WHY, parameters)


async def kinds_in_ledger(transaction: Transaction) -> Sequence[str]:
    """The names of the kinds that the ledger has mails of, including kinds of removed packages."""
    return [row.kind for row in await transaction.rows(KINDS)]
