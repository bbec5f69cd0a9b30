"""A page of people becomes ledger rows and the messages that send them, in one statement.

The predicates of who gets what are here once, as SQL; `domain.py` says the same in Python, and a property test holds
the two together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from taskbell.contracts import MailKind
from taskbell.database import Transaction
from taskbell_notifier.domain import MAILINGS

BATCH = 100
"""Deliveries in one message."""

PLANS = "SET LOCAL plan_cache_mode = 'force_custom_plan'"
# A plan made without knowing the page's range expects a handful of people, and compares each with each.

NEXT = """
    SELECT id, kind, at, timezone, force, cursor, user_ids IS NOT NULL AS listed,
        ARRAY(SELECT i FROM unnest(user_ids) AS i WHERE i > cursor ORDER BY i LIMIT :page) AS next_ids
    FROM taskbell.mailing
    WHERE completed_at IS NULL AND state = 'planning'
    ORDER BY planned, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
"""
# The lock on its row is the planner's lease on a mailing: it ends with the planner. Least planned first, so that a
# small mailing does not wait for a large one.

LOCK_FORCED = "SELECT pg_advisory_xact_lock(hashtextextended('taskbell forced ' || :kind, 0))"
# Two forced mailings at once would take the same next run, and one of them would mail nobody.

PLANNED = """
    UPDATE taskbell.mailing SET state = 'sending', planned_at = now() WHERE id = :mailing
"""

OPEN = "CAST(t.status AS text) IN ('pending', 'in_progress')"
# Cast, as an app's enum need not have all of these: as labels that it does not have they would be refused.

DUE: Mapping[MailKind, Sequence[str]] = {
    MailKind.REMINDER: (f"{OPEN} AND t.due_date >= :at AND t.due_date < :at + interval '24 hours'",),
    MailKind.OVERDUE: (f"{OPEN} AND t.due_date < :at",),
    MailKind.WEEKLY: (
        OPEN,
        "CAST(t.status AS text) = 'done' AND t.completed_at >= :at - interval '168 hours' AND t.completed_at < :at",
    ),
}
"""A person has something to be told at T who is assigned a task `t` that meets one of these."""

FIRST_RUN = "0"
NEXT_RUN = """coalesce((
            SELECT max(r.run) + 1 FROM taskbell.delivery AS r
            WHERE r.kind = :kind AND r.recipient = 'user:' || m.id AND r.period = m.period), 0)"""


@dataclass(frozen=True, slots=True)
class Planned:
    """A mailing that is being planned, locked by the transaction that read it."""

    id: int
    kind: MailKind
    at: datetime
    timezone: str | None
    force: bool
    cursor: int
    listed: bool
    """It keeps to `next_ids`; else it goes through all users."""
    next_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Periods:
    """What period T falls in, by zone name; `default` for people whose zone is none."""

    names: Sequence[str]
    periods: Sequence[str]
    default_name: str
    default: str


class Planning:
    """The statements, for the web app's tables in that schema."""

    def __init__(self, app: str) -> None:
        self._window = f"""
            SELECT max(id) FROM (
                SELECT id FROM {app}.users WHERE id > CAST(:cursor AS bigint) ORDER BY id LIMIT :page
            ) AS w
        """
        self._pages: Mapping[tuple[MailKind, bool, bool], str] = {
            (kind, listed, force): _page(
                app,
                (_due_among_listed if listed else _due_among_all)(app, DUE[kind]),
                NEXT_RUN if force else FIRST_RUN,
            )
            for kind in MAILINGS
            for listed in (False, True)
            for force in (False, True)
        }

    async def next(self, tx: Transaction, *, page: int) -> Planned | None:
        """A mailing with somebody left to plan, locked; None where there is none, or others are at it."""
        row = await tx.row(NEXT, {"page": page})
        return None if row is None else _planned(row)

    async def window(self, tx: Transaction, mailing: Planned, *, page: int) -> int | None:
        """The last user id of the next page; None: there are no more users."""
        if mailing.listed:
            return mailing.next_ids[-1] if mailing.next_ids else None
        last = await tx.value(self._window, {"cursor": mailing.cursor, "page": page})
        return None if last is None else int(last)

    async def plan(
        self,
        tx: Transaction,
        mailing: Planned,
        last: int,
        periods: Periods,
        *,
        expires_at: datetime,
        wait: timedelta,
    ) -> int:
        """Plans everybody after the cursor up to user id `last`; returns how many got a row.

        Args:
            wait: until a sweeper wonders why a row has not been sent.
        """
        if mailing.force:
            await tx.execute(LOCK_FORCED, {"kind": mailing.kind.value})
        await tx.execute(PLANS)
        rows = await tx.value(
            self._pages[mailing.kind, mailing.listed, mailing.force],
            {
                "mailing": mailing.id,
                "kind": mailing.kind.value,
                "at": mailing.at,
                "zone": mailing.timezone,
                "cursor": mailing.cursor,
                "last": last,
                "ids": list(mailing.next_ids) if mailing.listed else None,
                "zones": list(periods.names),
                "periods": list(periods.periods),
                "default_zone": periods.default_name,
                "default_period": periods.default,
                "expires_at": expires_at,
                "wait": wait.total_seconds(),
                "batch": BATCH,
            },
        )
        return int(rows)

    async def finish(self, tx: Transaction, mailing: Planned) -> None:
        """Everybody is planned."""
        await tx.execute(PLANNED, {"mailing": mailing.id})


def _due_among_all(app: str, conditions: Sequence[str]) -> str:
    """The page's users in one sweep over its range of the tasks' index, never the whole of it."""
    ranged = "t.assignee_id > CAST(:cursor AS bigint) AND t.assignee_id <= CAST(:last AS bigint)"
    found = [f"SELECT DISTINCT t.assignee_id FROM {app}.tasks AS t WHERE {ranged} AND {it}" for it in conditions]
    return f"u.id IN ({' UNION ALL '.join(found)})"


def _due_among_listed(app: str, conditions: Sequence[str]) -> str:
    """User by user: between two listed ones may lie any number of others."""
    found = [f"EXISTS (SELECT FROM {app}.tasks AS t WHERE t.assignee_id = u.id AND {it})" for it in conditions]
    return f"({' OR '.join(found)})"


def _page(app: str, due: str, run: str) -> str:
    return f"""
        WITH matching AS (
            SELECT u.id, coalesce(z.period, CAST(:default_period AS text)) AS period
            FROM {app}.users AS u
            LEFT JOIN unnest(CAST(:zones AS text[]), CAST(:periods AS text[])) AS z (name, period)
                ON z.name = u.timezone
            WHERE u.id > CAST(:cursor AS bigint) AND u.id <= CAST(:last AS bigint)
                AND (CAST(:ids AS bigint[]) IS NULL OR u.id = ANY(CAST(:ids AS bigint[])))
                AND u.is_active
                AND (CAST(:zone AS text) IS NULL OR coalesce(z.name, CAST(:default_zone AS text)) = CAST(:zone AS text))
                AND {due.replace(":at", "CAST(:at AS timestamptz)")}
        ), inserted AS (
            INSERT INTO taskbell.delivery
                (mailing_id, kind, recipient, user_id, period, run, expires_at, due_at)
            SELECT :mailing, :kind, 'user:' || m.id, m.id, m.period, {run}, CAST(:expires_at AS timestamptz),
                least(now() + make_interval(secs => :wait), CAST(:expires_at AS timestamptz))
            FROM matching AS m
            ORDER BY m.id
            ON CONFLICT ON CONSTRAINT delivery_once_key DO NOTHING
            RETURNING id
        ), written AS (
            INSERT INTO taskbell.outbox (owner, routing_key, body, message_id)
            SELECT 'notifier', 'notifier.send_batch', jsonb_build_object('delivery_ids', jsonb_agg(n.id ORDER BY n.id)),
                gen_random_uuid()::text
            FROM (SELECT id, (row_number() OVER (ORDER BY id) - 1) / :batch AS batch FROM inserted) AS n
            GROUP BY n.batch
            ORDER BY n.batch
        )
        UPDATE taskbell.mailing
        SET cursor = :last, planned = planned + i.rows, already = already + m.rows - i.rows,
            first_delivery = coalesce(first_delivery, i.first), last_delivery = coalesce(i.last, last_delivery)
        FROM (SELECT count(*) AS rows, min(id) AS first, max(id) AS last FROM inserted) AS i,
            (SELECT count(*) AS rows FROM matching) AS m
        WHERE mailing.id = :mailing
        RETURNING i.rows
    """


def _planned(row: Row[Any]) -> Planned:
    return Planned(
        id=row.id,
        kind=MailKind(row.kind),
        at=row.at,
        timezone=row.timezone,
        force=row.force,
        cursor=row.cursor,
        listed=row.listed,
        next_ids=row.next_ids,
    )
