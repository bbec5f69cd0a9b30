"""Mailing rows: one for each message_id, from the event to `mailing.completed`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

from taskbell.contracts import MailingCompleted
from taskbell.database import Transaction, sqlstate
from taskbell.errors import AnothersId, Retry
from taskbell.identity import ANOTHER, is_another
from taskbell.pruning import EndedRows

SAME_WITHIN_AN_HOUR = """
    SELECT id FROM taskbell.mailing
    WHERE kind = :kind AND body_digest = :digest AND inserted_at > now() - interval '1 hour'
    ORDER BY id LIMIT 1
"""

# If an anonymous message is delivered twice at once, only one of the two may find that its mailing is missing. Anybody
# who may connect can hold this lock, so nobody waits for it longer than LOCK_TIMEOUT.
LOCK_DIGEST = "SELECT pg_advisory_xact_lock(hashtextextended('taskbell mailing ' || :digest, 0))"

LOCK_TIMEOUT = "2s"

LOCK_NOT_AVAILABLE = "55P03"
"""SQLSTATE of a statement that did not get its lock in time."""

DIGEST = "SELECT digest FROM taskbell.mailing WHERE message_id = :message_id"

INSERT = """
    INSERT INTO taskbell.mailing AS m
        (message_id, kind, occurrence, at, timezone, user_ids, force, props, body_digest, digest, state, note)
    SELECT :message_id, :kind, :occurrence, t.at, :timezone, CAST(:user_ids AS bigint[]), :force,
        CAST(:props AS jsonb), :body_digest, :digest,
        CASE WHEN :direct OR t.late THEN 'sending' ELSE 'planning' END,
        CASE WHEN t.late THEN 'came after its expiry: nobody was planned' END
    FROM (
        SELECT a.at, a.at + make_interval(secs => :expiry) <= now() AS late
        FROM (SELECT coalesce(CAST(:at AS timestamptz), now()) AS at) AS a
    ) AS t
    WHERE t.at <= now() + make_interval(secs => :ahead)
    ON CONFLICT (message_id) DO NOTHING
    RETURNING m.id, m.at, m.note IS NOT NULL AS late
"""

INSERT_DIRECT = """
    WITH inserted AS (
        INSERT INTO taskbell.delivery
            (mailing_id, kind, recipient, user_id, address, period, expires_at, due_at)
        SELECT :mailing, :kind, coalesce('user:' || r.user_id, 'address:' || lower(r.address)), r.user_id, r.address,
            :period, CAST(:expires_at AS timestamptz),
            least(now() + make_interval(secs => :wait), CAST(:expires_at AS timestamptz))
        FROM unnest(CAST(:users AS bigint[]), CAST(:addresses AS text[])) AS r (user_id, address)
        ON CONFLICT ON CONSTRAINT delivery_once_key DO NOTHING
        RETURNING id
    )
    UPDATE taskbell.mailing
    SET planned = i.rows, already = :wanted - i.rows, first_delivery = i.first, last_delivery = i.last,
        planned_at = now()
    FROM (SELECT count(*) AS rows, min(id) AS first, max(id) AS last, array_agg(id ORDER BY id) AS ids
        FROM inserted) AS i
    WHERE mailing.id = :mailing
    RETURNING i.ids
"""

FINISHED = """
    SELECT m.id, m.kind, m.occurrence, m.already, m.note, m.first_delivery, m.last_delivery
    FROM taskbell.mailing AS m
    WHERE m.completed_at IS NULL AND (m.state = 'sending' OR m.state = 'cancelled')
        AND NOT EXISTS (
            SELECT FROM taskbell.delivery AS d WHERE d.mailing_id = m.id AND d.ended_at IS NULL)
    ORDER BY m.id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
"""

AHEAD = 5.0
"""Seconds by which an occurrence may lie in the future, because a server's clock may be set back. A later one is not
the scheduler's: it would take the mails of its day from the real one."""

MOST_COUNTED = 1_000_000
"""Deliveries that are counted by one statement, unless one mailing has more."""

COUNTS = """
    SELECT m.id, c.state, c.rows
    FROM unnest(CAST(:ids AS bigint[]), CAST(:firsts AS bigint[]), CAST(:lasts AS bigint[])) AS m (id, first, last)
    CROSS JOIN LATERAL (
        SELECT d.state, count(*) AS rows FROM taskbell.delivery AS d
        WHERE d.id BETWEEN m.first AND m.last AND d.mailing_id = m.id
        GROUP BY d.state
    ) AS c
"""

COMPLETE = """
    UPDATE taskbell.mailing AS m
    SET state = CASE WHEN m.state = 'cancelled' THEN m.state ELSE 'completed' END,
        completed_at = now(), counts = CAST(c.counts AS jsonb)
    FROM unnest(CAST(:ids AS bigint[]), CAST(:counts AS text[])) AS c (id, counts)
    WHERE m.id = c.id
"""

# A mailing goes once it has no deliveries left. Looked for by their ids, the first of them: as NOT EXISTS, PostgreSQL
# would read the whole ledger for it.
PRUNED = EndedRows(
    "taskbell.mailing",
    "id",
    "completed_at",
    """
        (
            SELECT d.id FROM taskbell.delivery AS d
            WHERE d.id BETWEEN t.first_delivery AND t.last_delivery AND d.mailing_id = t.id
            ORDER BY d.id LIMIT 1
        ) IS NULL
    """,
)


@dataclass(frozen=True, slots=True)
class NewMailing:
    """A mailing as a message asks for it.

    Attributes:
        body_digest: by it the message is recognised if it comes again without an id.
        digest: whose the message_id is.
        at: T; None: the moment of the insert.
        direct: its few recipients are inserted together with it, so there is nothing to plan.
    """

    message_id: str
    kind: str
    body_digest: str
    digest: str
    expiry: timedelta
    occurrence: datetime | None
    at: datetime | None
    timezone: str | None
    user_ids: Sequence[int] | None
    force: bool
    props: Mapping[str, Any] | None
    direct: bool


@dataclass(frozen=True, slots=True)
class Inserted:
    """A mailing that did not exist before."""

    id: int
    at: datetime
    late: bool
    """It came after its expiry, so it has no recipients."""


async def same_within_an_hour(transaction: Transaction, kind: str, digest: str) -> int | None:
    """The mailing that a repeated anonymous message belongs to: of the same kind and body, at most an hour old.

    Raises:
        Retry: somebody else holds the lock on that message for longer than LOCK_TIMEOUT.
    """
    await transaction.execute("SELECT set_config('lock_timeout', :limit, true)", {"limit": LOCK_TIMEOUT})
    try:
        await transaction.execute(LOCK_DIGEST, {"digest": digest})
    except DBAPIError as error:
        if sqlstate(error) != LOCK_NOT_AVAILABLE:
            raise
        msg = f"another session has held the lock on this message for more than {LOCK_TIMEOUT}"
        raise Retry(msg) from error
    found = await transaction.value(SAME_WITHIN_AN_HOUR, {"kind": kind, "digest": digest})
    return None if found is None else int(found)


async def insert(transaction: Transaction, new: NewMailing) -> Inserted | None:
    """Inserts the mailing; returns None if that message has inserted it already.

    Raises:
        AnothersId: another message has inserted a mailing under this message_id.
        Retry: the message's occurrence has not come yet.
    """
    row = await transaction.row(
        INSERT,
        {
            "message_id": new.message_id,
            "kind": new.kind,
            "occurrence": new.occurrence,
            "at": new.at,
            "timezone": new.timezone,
            "user_ids": None if new.user_ids is None else sorted(set(new.user_ids)),
            "force": new.force,
            "props": None if new.props is None else json.dumps(new.props),
            "body_digest": new.body_digest,
            "digest": new.digest,
            "direct": new.direct,
            "expiry": new.expiry.total_seconds(),
            "ahead": AHEAD,
        },
    )
    if row is not None:
        return Inserted(row.id, row.at, row.late)
    there = await transaction.row(DIGEST, {"message_id": new.message_id})
    if there is None:
        msg = "its occurrence has not come yet"
        raise Retry(msg)
    if is_another(there.digest, new.digest):
        raise AnothersId(ANOTHER)
    return None


async def insert_direct(
    transaction: Transaction,
    mailing: Inserted,
    kind: str,
    *,
    users: Sequence[int] = (),
    addresses: Sequence[str] = (),
    period: str,
    expires_at: datetime,
    wait: timedelta,
) -> list[int]:
    """Inserts rows for users, or for addresses that are not users'; returns the ids of the new rows."""
    ids = await transaction.value(
        INSERT_DIRECT,
        {
            "mailing": mailing.id,
            "kind": kind,
            "period": period,
            "expires_at": expires_at,
            "wait": wait.total_seconds(),
            "users": [*users, *(None for _ in addresses)],
            "addresses": [*(None for _ in users), *addresses],
            "wanted": len(users) + len(addresses),
        },
    )
    return list(ids or ())


async def complete(transaction: Transaction, *, limit: int) -> Sequence[MailingCompleted]:
    """Completes mailings that have been planned and have no open row left, `limit` at most; returns their events.

    The mailings' rows are locked until the transaction ends, so that each is completed, and its event published, once.
    """
    rows = _counted_together(await transaction.rows(FINISHED, {"limit": limit}))
    if not rows:
        return ()
    none = dict.fromkeys(("sent", "skipped", "suppressed", "expired", "failed"), 0)
    counts = {row.id: none | {"already": row.already} for row in rows}
    ids = [row.id for row in rows]
    ranges = {"firsts": [row.first_delivery for row in rows], "lasts": [row.last_delivery for row in rows]}
    for found in await transaction.rows(COUNTS, {"ids": ids} | ranges):
        counts[found.id][found.state] = found.rows
    await transaction.execute(COMPLETE, {"ids": ids, "counts": [json.dumps(counts[number]) for number in ids]})
    return [_completed(row, counts[row.id]) for row in rows]


def _counted_together(rows: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """The first of these mailings, as many as one statement may count; their ranges of deliveries may overlap."""
    kept: list[Row[Any]] = []
    deliveries = 0
    for row in rows:
        deliveries += 0 if row.first_delivery is None else row.last_delivery - row.first_delivery
        if kept and deliveries > MOST_COUNTED:
            break
        kept.append(row)
    return kept


def _completed(row: Row[Any], counts: Mapping[str, int]) -> MailingCompleted:
    note = {} if row.note is None else {"note": row.note}
    return MailingCompleted(mailing_id=row.id, kind=row.kind, occurrence=row.occurrence, counts=dict(counts), **note)
