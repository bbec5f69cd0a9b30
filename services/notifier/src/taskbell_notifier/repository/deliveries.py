"""Ledger rows: claim, lease, data marker, outcome, and the sweep. Each statement takes sets.

Fences: a row belongs to the process that wrote its `claim`. The data marker is committed before the first byte of the
message, and only if claim and lease still hold. An outcome is written only if the row still has the claim.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import Row

from taskbell.database import Transaction
from taskbell.pruning import EndedRows
from taskbell_notifier.lifecycle import CHECK_AGAIN, ENDED, Change, Claimed, DeliveryState, OpenRow, Phase, Postpone

# "IS TRUE" keeps PostgreSQL from using the index of open rows: beside the rows of many days it expects next to none of
# them, and would read every row of a mailing under way for each batch of it.
_TAKABLE = """
        SELECT d.id, d.state
        FROM taskbell.delivery AS d
        JOIN taskbell.mailing AS m ON m.id = d.mailing_id
        WHERE d.id = ANY(CAST(:ids AS bigint[])) AND (d.ended_at IS NULL) IS TRUE AND d.expires_at > now()
            AND m.state <> 'cancelled'
            AND (d.state = 'planned'
                OR (d.state = 'retry' AND d.next_attempt_at <= now())
                OR (d.state = 'unknown' AND d.next_attempt_at <= now() AND d.resends = 0 AND NOT :hold))
"""

# A mail's Message-ID: kind, id, token and the sender's domain. It is composed nowhere else, and its form is for ever:
# servers and readers recognise by it a mail that comes twice, also across versions. Ids begin with 1 in each
# installation and in each schema made anew; the token makes the mails of all of them differ. It is the row's default,
# so whoever plans a row gives it one. A row from before there were tokens has none, and keeps the form without it.
_MESSAGE_ID = "'<' || d.kind || '.' || d.id || coalesce('.' || d.message_token, '') || '@' || :domain || '>'"

# SKIP LOCKED: whoever has the row locked is claiming it, or judges it and may leave it as it is; `takable` finds out.
CLAIM = f"""
    WITH takable AS (
        {_TAKABLE.strip()}
        FOR UPDATE OF d SKIP LOCKED
    )
    UPDATE taskbell.delivery AS d
    SET state = 'sending', phase = 'envelope', claim = :claim, lease_until = now() + make_interval(secs => :lease),
        attempts = d.attempts + 1,
        mail_message_id = coalesce(d.mail_message_id, {_MESSAGE_ID})
    FROM takable AS t, taskbell.mailing AS m
    WHERE d.id = t.id AND m.id = d.mailing_id
    RETURNING d.id, d.mailing_id, d.kind, d.user_id, d.address, m.at, m.props::text AS props, t.state AS before,
        d.attempts, d.unknown_at IS NOT NULL AS was_unknown, d.mail_message_id
"""

# A lease that ran out while PostgreSQL was away is renewed too: if a sweeper had judged the row, it would have lost its
# claim.
RENEW = """
    UPDATE taskbell.delivery AS d
    SET lease_until = now() + make_interval(secs => :lease)
    FROM (
        SELECT r.id
        FROM unnest(CAST(:ids AS bigint[]), CAST(:claims AS uuid[])) AS h (id, claim)
        JOIN taskbell.delivery AS r ON r.id = h.id AND r.claim = h.claim
        WHERE r.state = 'sending' AND r.phase = 'envelope'
        FOR UPDATE OF r SKIP LOCKED
    ) AS claimed
    WHERE d.id = claimed.id
"""

CANCELLED = "SELECT state = 'cancelled' FROM taskbell.mailing WHERE id = :id"

MARK = """
    UPDATE taskbell.delivery AS d
    SET phase = 'data', lease_until = now() + make_interval(secs => :lease),
        resends = d.resends + CASE WHEN d.unknown_at IS NULL THEN 0 ELSE 1 END
    FROM unnest(CAST(:marked AS bigint[]), CAST(:marked_claims AS uuid[])) AS m (id, claim), taskbell.mailing AS g
    WHERE d.id = m.id AND d.claim = m.claim AND d.state = 'sending' AND d.phase = 'envelope'
        AND g.id = d.mailing_id AND g.state <> 'cancelled'
        AND d.lease_until > now() AND d.expires_at > now() AND (d.unknown_at IS NULL OR d.resends = 0)
    RETURNING d.id
"""

# A row ends once, so its event is written once; the message_id is random, so that nobody can take it beforehand.
# An unknown row keeps its claim until it is claimed again, so that an outcome that arrives late still counts.
CHANGE = """
    WITH wanted AS (
        SELECT * FROM unnest(
            CAST(:ids AS bigint[]), CAST(:claims AS uuid[]), CAST(:states AS text[]), CAST(:reasons AS text[]),
            CAST(:waits AS float8[]), CAST(:untried AS boolean[]), CAST(:cut_off AS boolean[]),
            CAST(:addresses AS text[]), CAST(:suppress AS boolean[])
        ) AS w (id, claim, state, reason, wait, untried, cut_off, address, suppress)
    ), changed AS (
        UPDATE taskbell.delivery AS d
        SET state = w.state, reason = w.reason, phase = NULL, lease_until = NULL,
            claim = CASE WHEN w.state = 'unknown' THEN d.claim END,
            attempts = d.attempts - CASE WHEN w.untried THEN 1 ELSE 0 END,
            resends = d.resends
                - CASE WHEN w.untried AND d.phase = 'data' AND d.unknown_at IS NOT NULL THEN 1 ELSE 0 END,
            cut_offs = d.cut_offs + CASE WHEN w.cut_off THEN 1 ELSE 0 END,
            address = coalesce(w.address, d.address),
            unknown_at = CASE WHEN w.state = 'unknown' THEN coalesce(d.unknown_at, now()) ELSE d.unknown_at END,
            next_attempt_at = now() + make_interval(secs => w.wait),
            due_at = CASE
                WHEN w.state = ANY(CAST(:ended AS text[])) THEN d.due_at
                WHEN w.state = 'unknown' THEN now() + make_interval(secs => w.wait)
                ELSE least(now() + make_interval(secs => w.wait), d.expires_at) END,
            ended_at = CASE WHEN w.state = ANY(CAST(:ended AS text[])) THEN now() END
        FROM wanted AS w
        WHERE d.id = w.id AND (d.ended_at IS NULL) IS TRUE AND d.claim IS NOT DISTINCT FROM w.claim
        RETURNING d.id, d.mailing_id, d.user_id, d.kind, d.state, d.reason, d.ended_at, w.address, w.suppress
    ), reported AS (
        INSERT INTO taskbell.outbox (owner, routing_key, body, message_id)
        SELECT 'notifier', 'mail.failed',
            jsonb_build_object('delivery_id', id, 'user_id', user_id, 'kind', kind, 'reason', reason),
            gen_random_uuid()::text
        FROM changed WHERE state IN ('failed', 'expired')
    ), suppressed AS (
        INSERT INTO taskbell.suppression (address, reason, delivery_id)
        SELECT DISTINCT ON (lower(address)) lower(address), reason, id
        FROM changed WHERE suppress AND address IS NOT NULL ORDER BY lower(address), id
        ON CONFLICT (address) DO NOTHING
    )
    SELECT id, mailing_id, kind, state, ended_at IS NOT NULL AS ended FROM changed
"""


@lru_cache(maxsize=1)
def _together(mark: str, change: str) -> str:
    """Both in one statement. No row is in both: it has one claim, and its sender asks for one of them at a time."""
    return f"""
        WITH marked AS ({mark}),
        {change.strip().removeprefix("WITH")}
        UNION ALL SELECT id, NULL, NULL, NULL, NULL FROM marked
    """


SWEEP = """
    SELECT d.*, m.at, m.state = 'cancelled' AS cancelled, now() AS now
    FROM taskbell.mailing AS m
    CROSS JOIN LATERAL (
        SELECT id, mailing_id, state, phase, claim, lease_until, resends, cut_offs, unknown_at IS NOT NULL
            AS was_unknown, next_attempt_at, queued_at, expires_at, reason
        FROM taskbell.delivery
        WHERE mailing_id = m.id AND ended_at IS NULL
            AND due_at <= CASE WHEN m.state = 'cancelled' THEN 'infinity'::timestamptz ELSE now() END
        ORDER BY due_at
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ) AS d
    WHERE m.completed_at IS NULL
    LIMIT :limit
"""

# Rows in the phase data that the sweeper has put off are due within seconds, and are left as they are.
EXPIRED_LEASES = """
    UPDATE taskbell.delivery AS d SET due_at = now()
    FROM (
        SELECT r.id
        FROM taskbell.mailing AS m
        JOIN taskbell.delivery AS r ON r.mailing_id = m.id AND r.ended_at IS NULL
        WHERE m.completed_at IS NULL AND r.state = 'sending' AND r.lease_until <= now()
            AND r.due_at > now() + make_interval(secs => :soon)
        LIMIT :limit
        FOR UPDATE OF r SKIP LOCKED
    ) AS expired
    WHERE d.id = expired.id
"""

POSTPONE = """
    UPDATE taskbell.delivery AS d SET due_at = now() + make_interval(secs => l.wait)
    FROM unnest(CAST(:ids AS bigint[]), CAST(:waits AS float8[])) AS l (id, wait)
    WHERE d.id = l.id
"""

QUEUED = """
    UPDATE taskbell.delivery
    SET queued_at = now(), due_at = least(now() + make_interval(secs => :wait), expires_at)
    WHERE id = ANY(CAST(:ids AS bigint[]))
"""

UNPUBLISHED = """
    SELECT count(*) FROM (
        SELECT FROM taskbell.outbox
        WHERE owner = 'notifier' AND published_at IS NULL AND routing_key = 'notifier.send_batch'
        LIMIT :limit
    ) AS waiting
"""

PRUNED = EndedRows(
    "taskbell.delivery",
    "id",
    "ended_at",
    "EXISTS (SELECT FROM taskbell.mailing AS m WHERE m.id = t.mailing_id AND m.completed_at IS NOT NULL)",
)


class Changed(NamedTuple):
    """A change that took effect."""

    id: int
    mailing_id: int
    kind: str
    state: DeliveryState
    ended: bool


async def claim(
    transaction: Transaction, ids: Sequence[int], *, lease: timedelta, domain: str, hold: bool
) -> Sequence[Claimed]:
    """Claims those of the rows that may be sent now: planned, due for retry, or due for their one resend."""
    token = uuid4()
    rows = await transaction.rows(
        CLAIM,
        {"ids": list(ids), "claim": token, "lease": lease.total_seconds(), "domain": domain, "hold": hold},
    )
    return [_claimed(row, token) for row in rows]


async def takable(transaction: Transaction, ids: Sequence[int], *, hold: bool) -> list[int]:
    """The ids of those rows that a claim would take if no other transaction had them locked."""
    return [row.id for row in await transaction.rows(_TAKABLE, {"ids": list(ids), "hold": hold})]


async def renew(transaction: Transaction, claimed: Iterable[Claimed], *, lease: timedelta) -> None:
    """Renews the leases of claimed rows that wait for their turn."""
    rows = list(claimed)
    parameters = {"ids": [row.id for row in rows], "claims": [row.claim for row in rows]}
    await transaction.execute(RENEW, parameters | {"lease": lease.total_seconds()})


async def is_cancelled(transaction: Transaction, mailing: int) -> bool:
    """Whether that mailing was cancelled, so that none of its mails may begin any more."""
    return bool(await transaction.value(CANCELLED, {"id": mailing}))


async def write(
    transaction: Transaction, marks: Sequence[Claimed], changes: Sequence[Change], *, lease: timedelta
) -> tuple[set[int], list[Changed]]:
    """Writes data markers, and changes to other rows as `change` does, in one statement.

    Returns:
        the ids of the rows whose message may now go, and the changes that took effect.
    """
    parameters = {
        "marked": [row.id for row in marks],
        "marked_claims": [row.claim for row in marks],
        "lease": lease.total_seconds(),
    }
    rows = await transaction.rows(_together(MARK, CHANGE), _columns(changes) | parameters)
    return {row.id for row in rows if row.state is None}, [_changed(row) for row in rows if row.state is not None]


async def change(transaction: Transaction, changes: Sequence[Change]) -> list[Changed]:
    """Writes changes to rows that still have their claims, publishes failures, and suppresses dead addresses."""
    return [_changed(row) for row in await transaction.rows(CHANGE, _columns(changes))]


def _columns(changes: Sequence[Change]) -> dict[str, Any]:
    return {
        "ids": [it.id for it in changes],
        "claims": [it.claim for it in changes],
        "states": [it.state.value for it in changes],
        "reasons": [it.reason for it in changes],
        "waits": [it.wait.total_seconds() for it in changes],
        "untried": [it.untried for it in changes],
        "cut_off": [it.cut_off for it in changes],
        "addresses": [it.address for it in changes],
        "suppress": [it.suppress for it in changes],
        "ended": [state.value for state in ENDED],
    }


def _changed(row: Row[Any]) -> Changed:
    return Changed(row.id, row.mailing_id, row.kind, DeliveryState(row.state), row.ended)


async def due_rows(transaction: Transaction, limit: int) -> tuple[datetime | None, list[OpenRow]]:
    """The database's clock (None: no row is due) and the open rows that are due, locked."""
    rows = await transaction.rows(SWEEP, {"limit": limit})
    return (rows[0].now if rows else None), [_open(row) for row in rows]


async def expired_leases_due(transaction: Transaction, limit: int) -> int:
    """Makes rows due whose lease has run out, `limit` at most; returns how many."""
    parameters = {"limit": limit, "soon": CHECK_AGAIN.total_seconds()}
    return (await transaction.execute(EXPIRED_LEASES, parameters)).rowcount


async def postpone(transaction: Transaction, postponed: Sequence[Postpone]) -> None:
    """Puts rows off; `due_rows` has locked them."""
    waits = [it.wait.total_seconds() for it in postponed]
    await transaction.execute(POSTPONE, {"ids": [it.id for it in postponed], "waits": waits})


async def queued(transaction: Transaction, ids: Sequence[int], *, wait: timedelta) -> None:
    """Records that a message was written for each of these rows; they are due again after `wait`."""
    await transaction.execute(QUEUED, {"ids": list(ids), "wait": wait.total_seconds()})


async def unpublished(transaction: Transaction, limit: int) -> int:
    """The number of batch messages that wait for the broker's confirm; counts no further than `limit`."""
    return int(await transaction.value(UNPUBLISHED, {"limit": limit}))


def _claimed(row: Row[Any], token: UUID) -> Claimed:
    props: Mapping[str, Any] = {} if row.props is None else json.loads(row.props)
    return Claimed(
        id=row.id,
        mailing_id=row.mailing_id,
        kind=row.kind,
        user_id=row.user_id,
        address=row.address if row.user_id is None else None,
        at=row.at,
        props=props,
        claim=token,
        before=DeliveryState(row.before),
        attempts=row.attempts,
        was_unknown=row.was_unknown,
        message_id=row.mail_message_id,
    )


def _open(row: Row[Any]) -> OpenRow:
    return OpenRow(
        id=row.id,
        mailing_id=row.mailing_id,
        at=row.at,
        cancelled=row.cancelled,
        state=DeliveryState(row.state),
        phase=None if row.phase is None else Phase(row.phase),
        claim=row.claim,
        lease_until=row.lease_until,
        resends=row.resends,
        cut_offs=row.cut_offs,
        was_unknown=row.was_unknown,
        next_attempt_at=row.next_attempt_at,
        queued_at=row.queued_at,
        expires_at=row.expires_at,
        reason=row.reason,
    )
