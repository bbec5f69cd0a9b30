"""Writes the ledger rows of a page of users, and the messages that send them, in one statement.

The file of a kind says who gets it, as conditions or as a statement; `conditions.py` makes SQL of that.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import Row

from taskbell.database import Transaction
from taskbell.errors import Overtaken
from taskbell.kinds import Kind, Statement
from taskbell_notifier.repository.conditions import predicate, statement

BATCH = 100
"""Deliveries in one message."""

# A plan made without knowing the page's range expects a handful of users, and compares each with each.
PLANS = "SET LOCAL plan_cache_mode = 'force_custom_plan'"

# The lock on a mailing's row is the planner's lease on it: it ends with the planner. The mailing with the fewest rows
# comes first, so that a small mailing does not wait for a large one.
NEXT = """
    SELECT id, kind, at, timezone, force, cursor, already, user_ids IS NOT NULL AS listed,
        coalesce(props->'event', '{}')::text AS event,
        ARRAY(SELECT i FROM unnest(user_ids) AS i WHERE i > cursor ORDER BY i LIMIT :page) AS next_ids
    FROM taskbell.mailing
    WHERE completed_at IS NULL AND state = 'planning' AND kind <> ALL(CAST(:but AS text[]))
    ORDER BY planned, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
"""

ALREADY = "SELECT already FROM taskbell.mailing WHERE id = :mailing"

PLANNED = """
    UPDATE taskbell.mailing SET state = 'sending', planned_at = now(), note = coalesce(:note, note) WHERE id = :mailing
"""

FIRST_RUN = "0"
NEXT_RUN = """coalesce((
            SELECT max(r.run) + 1 FROM taskbell.delivery AS r
            WHERE r.kind = :kind AND r.recipient = 'user:' || m.id AND r.period = m.period), 0)"""


@dataclass(frozen=True, slots=True)
class Planned:
    """A mailing that is being planned, locked by the transaction that read it."""

    id: int
    kind: str
    """The name of its kind; the kind's package may not be installed any more."""
    at: datetime
    timezone: str | None
    force: bool
    cursor: int
    listed: bool
    """True: it goes to `next_ids` alone; else to all users."""
    next_ids: Sequence[int]
    event: str
    """JSON of the fields that a package's contract adds to ours."""
    already: int = 0
    """Recipients so far whose row of this period existed before."""


@dataclass(frozen=True, slots=True)
class Periods:
    """The period that T falls in, by zone name; `default` is for users without a valid zone."""

    names: Sequence[str]
    periods: Sequence[str]
    default_name: str
    default: str


WINDOW = """
    SELECT max(id) FROM (
        SELECT id FROM {app}.users WHERE id > CAST(:cursor AS bigint) ORDER BY id LIMIT :page
    ) AS w
"""


async def next_mailing(transaction: Transaction, *, page: int, but: Collection[str] = ()) -> Planned | None:
    """A mailing that is not planned to its end, locked; None: there is none, or other planners have it.

    Args:
        but: kinds whose mailings are left out.
    """
    row = await transaction.row(NEXT, {"page": page, "but": list(but)})
    return None if row is None else _planned(row)


async def window(transaction: Transaction, app: str, mailing: Planned, *, page: int) -> int | None:
    """The last user id of the next page; None: no users are left."""
    if mailing.listed:
        return mailing.next_ids[-1] if mailing.next_ids else None
    last = await transaction.value(WINDOW.format(app=app), {"cursor": mailing.cursor, "page": page})
    return None if last is None else int(last)


async def plan(
    transaction: Transaction,
    app: str,
    kind: Kind,
    mailing: Planned,
    last: int,
    periods: Periods,
    *,
    expires_at: datetime,
    wait: timedelta,
) -> int:
    """Plans the users after the cursor up to user id `last`; returns the number of new rows.

    Args:
        wait: how long until a sweeper checks a row that has not been sent.

    Raises:
        Overtaken: another forced mailing took the same run for some of these users; nothing of this page may stay.
    """
    await transaction.execute(PLANS)
    rows = await transaction.value(
        page_statement(app, kind, listed=mailing.listed, force=mailing.force),
        {
            "mailing": mailing.id,
            "kind": kind.name,
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
            "event": mailing.event,
        },
    )
    # A forced mailing makes new rows, so that nobody has one before, unless two of them took the same next run at once.
    if mailing.force and await transaction.value(ALREADY, {"mailing": mailing.id}) != mailing.already:
        msg = "another forced mailing of this kind is planned at the same time"
        raise Overtaken(msg)
    return int(rows)


async def finish(transaction: Transaction, mailing: Planned, note: str | None = None) -> None:
    """Ends the planning of a mailing: all users are planned, or none can be, and the note says why."""
    await transaction.execute(PLANNED, {"mailing": mailing.id, "note": note})


@lru_cache(maxsize=256)
def page_statement(app: str, kind: Kind, *, listed: bool, force: bool) -> str:
    """The statement that plans a page; `listed`: the mailing names its users."""
    run = NEXT_RUN if force else FIRST_RUN
    if isinstance(kind.who, Statement):
        # An expression of its own: a column that its tables do not have would else be our users' column, and everybody
        # would be mailed.
        return _page(app, "u.id IN (SELECT * FROM named)", run, f"named AS (\n{statement(kind.who, app)}\n), ")
    assert isinstance(kind.who, tuple), f"{kind.name} mails are not planned"
    conditions = [predicate(condition) for condition in kind.who]
    return _page(app, (_due_among_listed if listed else _due_among_all)(app, conditions), run)


def _due_among_all(app: str, conditions: Sequence[str]) -> str:
    """The page's users, by one scan of the page's range in the index of tasks."""
    ranged = "t.assignee_id > CAST(:cursor AS bigint) AND t.assignee_id <= CAST(:last AS bigint)"
    found = [f"SELECT DISTINCT t.assignee_id FROM {app}.tasks AS t WHERE {ranged} AND {it}" for it in conditions]
    return f"u.id IN ({' UNION ALL '.join(found)})"


def _due_among_listed(app: str, conditions: Sequence[str]) -> str:
    """The listed users, one by one: between two of them there may be any number of others."""
    found = [f"EXISTS (SELECT FROM {app}.tasks AS t WHERE t.assignee_id = u.id AND {it})" for it in conditions]
    return f"({' OR '.join(found)})"


def _page(app: str, due: str, run: str, before: str = "") -> str:
    return f"""
        WITH {before}matching AS (
            SELECT u.id, coalesce(z.period, CAST(:default_period AS text)) AS period
            FROM {app}.users AS u
            LEFT JOIN unnest(CAST(:zones AS text[]), CAST(:periods AS text[])) AS z (name, period)
                ON z.name = u.timezone
            WHERE u.id > CAST(:cursor AS bigint) AND u.id <= CAST(:last AS bigint)
                AND (CAST(:ids AS bigint[]) IS NULL OR u.id = ANY(CAST(:ids AS bigint[])))
                AND u.is_active
                AND (CAST(:zone AS text) IS NULL OR coalesce(z.name, CAST(:default_zone AS text)) = CAST(:zone AS text))
                AND {due}
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
        kind=row.kind,
        at=row.at,
        timezone=row.timezone,
        force=row.force,
        cursor=row.cursor,
        listed=row.listed,
        next_ids=row.next_ids,
        event=row.event,
        already=row.already,
    )
