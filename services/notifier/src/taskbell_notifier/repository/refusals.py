"""Refusals that nobody has been blamed for yet, as all processes have met them.

A refused row of the ledger waits as `retry` and is not among the rows that the sweeper takes up, because its time comes
later. What is kept here outlives the process, and is judged by any of them.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row

from taskbell.database import Transaction
from taskbell_notifier.lifecycle import Change, DeliveryState
from taskbell_notifier.refusals import Refused
from taskbell_notifier.repository.resending import resend

MOST = 1_000
"""Refusals that are judged at once."""

# A row that is refused again while sending is paused stays among those that are held.
RECORD = """
    INSERT INTO taskbell.refusal AS r (delivery_id, person, said, reason)
    SELECT * FROM unnest(
        CAST(:ids AS bigint[]), CAST(:people AS text[]), CAST(:words AS text[]), CAST(:reasons AS text[]))
    ON CONFLICT (delivery_id) DO UPDATE SET said = excluded.said, reason = excluded.reason, refused_at = now(),
        held_at = CASE WHEN r.said = excluded.said THEN r.held_at END
"""

# The first mail to somebody else that was taken since. For a row that is held, only mails count that were begun after
# sending had paused: those under way were taken by the server as it was before.
READ = f"""
    SELECT r.delivery_id, r.person, r.said, r.reason, r.refused_at, r.held_at, d.mailing_id, d.state, d.claim,
        now() AS now, t.ended_at AS taken_at
    FROM taskbell.refusal AS r
    LEFT JOIN taskbell.delivery AS d ON d.id = r.delivery_id
    LEFT JOIN LATERAL (
        SELECT a.ended_at FROM taskbell.delivery AS a
        WHERE a.ended_at > coalesce(r.held_at + make_interval(secs => :settle), r.refused_at)
            AND a.state = 'sent' AND lower(a.address) <> r.person
        ORDER BY a.ended_at LIMIT 1
    ) AS t ON true
    ORDER BY r.refused_at, r.delivery_id
    LIMIT {MOST}
    FOR UPDATE OF r SKIP LOCKED
"""

KEPT = f"SELECT count(*) FROM (SELECT FROM taskbell.refusal LIMIT {MOST}) AS kept"

HOLD = """
    WITH held AS (
        UPDATE taskbell.refusal SET held_at = now() WHERE delivery_id = ANY(CAST(:ids AS bigint[])) AND held_at IS NULL
        RETURNING delivery_id
    ), lifted AS (
        DELETE FROM taskbell.suppression WHERE delivery_id IN (SELECT delivery_id FROM held)
    )
    UPDATE taskbell.delivery AS d
    SET next_attempt_at = now() + make_interval(secs => :wait), reason = :reason,
        due_at = least(now() + make_interval(secs => :wait), d.expires_at)
    FROM held
    WHERE d.id = held.delivery_id AND d.state IN ('retry', 'unknown')
"""

RELEASE = """
    UPDATE taskbell.delivery AS d SET next_attempt_at = now(), due_at = least(now(), d.expires_at)
    WHERE d.id = ANY(CAST(:ids AS bigint[])) AND d.state IN ('retry', 'unknown')
"""

# The try was not counted while the row waited.
COUNT = """
    UPDATE taskbell.delivery SET attempts = attempts + 1
    WHERE id = ANY(CAST(:ids AS bigint[])) AND state IN ('retry', 'unknown')
"""

# Not those of a mailing that was cancelled meanwhile, nor those that were planned again before: whoever meets the same
# refusal once more gets no third mail row by itself.
ASKED_FOR = """
    SELECT id FROM taskbell.mailing
    WHERE id = ANY(CAST(:ids AS bigint[])) AND state <> 'cancelled' AND NOT starts_with(message_id, 'resend.')
    ORDER BY id
"""

DROP = "DELETE FROM taskbell.refusal WHERE delivery_id = ANY(CAST(:ids AS bigint[]))"


async def record(transaction: Transaction, changes: Sequence[Change]) -> None:
    """Keeps the refusals that these changes of rows were made for."""
    await transaction.execute(
        RECORD,
        {
            "ids": [it.id for it in changes],
            "people": [(it.address or "").lower() for it in changes],
            "words": [it.words for it in changes],
            "reasons": [it.reason for it in changes],
        },
    )


async def read(transaction: Transaction, *, settle: timedelta) -> list[Refused]:
    """The oldest refusals that are kept, locked; those that another process judges now are left out.

    Args:
        settle: how long after the beginning of a pause mails may still be taken that were under way then.
    """
    return [_refused(row) for row in await transaction.rows(READ, {"settle": settle.total_seconds()})]


async def count_kept(transaction: Transaction) -> int:
    """How many refusals are kept, MOST at most, those that another process judges now included."""
    return int(await transaction.value(KEPT))


async def hold(transaction: Transaction, ids: Sequence[int], *, wait: timedelta, reason: str) -> None:
    """Notes that sending is paused for these refusals; addresses that were suppressed for them no longer are."""
    await transaction.execute(HOLD, {"ids": list(ids), "wait": wait.total_seconds(), "reason": reason})


async def count(transaction: Transaction, ids: Sequence[int]) -> None:
    """Counts the tries that ended in these refusals, before their rows end for them."""
    await transaction.execute(COUNT, {"ids": list(ids)})


async def release(transaction: Transaction, ids: Sequence[int]) -> None:
    """Makes the rows due at once."""
    await transaction.execute(RELEASE, {"ids": list(ids)})


async def plan_again(transaction: Transaction, rows: Sequence[Refused]) -> int:
    """Plans the mails of rows that had ended for their refusals; returns how many.

    Each has a row of its own, of the next run, in a mailing of its own for each mailing that they were in.
    """
    planned = 0
    mailings = list({row.mailing_id for row in rows if row.mailing_id is not None})
    for mailing in [row.id for row in await transaction.rows(ASKED_FOR, {"ids": mailings})]:
        ids = [row.delivery_id for row in rows if row.mailing_id == mailing]
        again = await resend(transaction, mailing, states=[DeliveryState.FAILED.value], deliveries=ids)
        planned += again.rows
    return planned


async def drop(transaction: Transaction, ids: Sequence[int]) -> None:
    """Forgets these refusals."""
    await transaction.execute(DROP, {"ids": list(ids)})


def _refused(row: Row[Any]) -> Refused:
    return Refused(
        delivery_id=row.delivery_id,
        mailing_id=row.mailing_id,
        person=row.person,
        words=row.said,
        reason=row.reason,
        refused_at=row.refused_at,
        held_at=row.held_at,
        state=None if row.state is None else DeliveryState(row.state),
        claim=row.claim,
        taken_at=row.taken_at,
        now=row.now,
    )
