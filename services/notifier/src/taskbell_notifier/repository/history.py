"""What became of somebody's mails, for operators."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, RowMapping

from taskbell.contracts import MailKind
from taskbell.database import Transaction

RECIPIENTS = """
    SELECT 'user:' || id FROM {app}.users WHERE lower(btrim(email)) = lower(btrim(:address))
    UNION ALL SELECT 'address:' || lower(btrim(:address))
"""

PERSON = "SELECT name, email, timezone, locale FROM {app}.users WHERE id = CAST(:id AS bigint)"

WHY = """
    SELECT d.id, d.kind, d.recipient, d.period, d.run, d.state, d.reason, d.attempts, d.resends,
        d.created_at, d.next_attempt_at, d.lease_until, d.expires_at, d.ended_at, d.mailing_id
    FROM taskbell.delivery AS d
    WHERE d.kind = ANY(CAST(:kinds AS text[])) AND d.recipient = ANY(CAST(:recipients AS text[]))
    ORDER BY d.id DESC
    LIMIT :limit
"""


NOW = """
    SELECT u.is_active, u.timezone,
        count(t.id) FILTER (WHERE t.due_date >= now() AND t.due_date < now() + interval '24 hours') AS reminder,
        count(t.id) FILTER (WHERE t.due_date < now()) AS overdue,
        count(t.id) AS open,
        ARRAY(SELECT kind FROM taskbell.preference WHERE user_id = u.id AND NOT enabled ORDER BY kind) AS opted_out
    FROM {app}.users AS u
    LEFT JOIN {app}.tasks AS t ON t.assignee_id = u.id AND CAST(t.status AS text) IN ('pending', 'in_progress')
    WHERE u.id = CAST(:id AS bigint)
    GROUP BY u.id, u.is_active, u.timezone
"""

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
# A pause of a whole schedule is in its row of the zone "*".

MAILINGS = """
    SELECT id, message_id, kind, occurrence, timezone, force, state, planned, already, counts::text AS counts, note,
        inserted_at, completed_at
    FROM taskbell.mailing
    WHERE CAST(:message AS text) IS NULL OR message_id = :message
    ORDER BY id DESC
    LIMIT :limit
"""


async def standing(tx: Transaction, app: str, user: int) -> Row[Any] | None:
    """What a mailing would find of a user at this moment: activity, zone, open tasks, what they opted out of."""
    return await tx.row(NOW.format(app=app), {"id": user})


async def schedules_in(tx: Transaction, zone: str) -> Sequence[Row[Any]]:
    """What each schedule did last in that zone, which mailing came of it, and whether it is paused now."""
    return await tx.rows(SCHEDULES, {"zone": zone})


async def newest_mailings(tx: Transaction, message: str | None, *, limit: int) -> Sequence[RowMapping]:
    """The newest mailings, or the one of that message_id."""
    return await tx.mappings(MAILINGS, {"message": message, "limit": limit})


async def recipients_at(tx: Transaction, app: str, address: str) -> Sequence[str]:
    """How the ledger knows an address: itself, and every user who has it now."""
    rows = await tx.rows(RECIPIENTS.format(app=app), {"address": address})
    return [row[0] for row in rows]


async def person(tx: Transaction, app: str, user: int) -> Row[Any] | None:
    """Name, email, timezone and locale of a user."""
    return await tx.row(PERSON.format(app=app), {"id": user})


async def deliveries_to(
    tx: Transaction, recipients: Sequence[str], kind: MailKind | None, *, limit: int
) -> Sequence[RowMapping]:
    """The newest rows of these recipients, of that kind or of any."""
    kinds = [kind.value] if kind else [every.value for every in MailKind]
    return await tx.mappings(WHY, {"kinds": kinds, "recipients": list(recipients), "limit": limit})
