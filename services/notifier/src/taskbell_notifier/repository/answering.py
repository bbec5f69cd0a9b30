"""When PostgreSQL was seen to answer, by any notifier: kept in the database, so that it outlives each process.

A stretch lasts from the first to the last of several observations, each soon after the one before it. What lies between
two stretches was seen by nobody: PostgreSQL may have been away, or no notifier ran.
"""

from collections.abc import Sequence
from datetime import timedelta

from taskbell.database import Transaction
from taskbell_notifier.lifecycle import Stretch

KEPT = timedelta(hours=24)
"""How long stretches are kept; leases that ran out longer ago are judged by what was seen since."""

# The newest stretch grows only if this process did not see PostgreSQL away since its own last observation.
OBSERVE = """
    WITH grown AS (
        UPDATE taskbell.answering AS a SET until = greatest(a.until, now())
        WHERE a.id = (SELECT max(id) FROM taskbell.answering) AND :unbroken
            AND a.until >= now() - make_interval(secs => :together)
        RETURNING a.id
    ), pruned AS (
        DELETE FROM taskbell.answering AS a
        WHERE a.until < now() - make_interval(secs => :kept) AND a.id NOT IN (SELECT id FROM grown)
    )
    INSERT INTO taskbell.answering (since, until)
    SELECT now(), now() WHERE NOT EXISTS (SELECT FROM grown)
"""

STRETCHES = "SELECT since, until FROM taskbell.answering ORDER BY since"


async def observe(transaction: Transaction, *, together: timedelta, unbroken: bool) -> None:
    """Records that PostgreSQL answers now.

    Args:
        together: the longest time between two observations of one stretch.
        unbroken: False if this process saw PostgreSQL away since it last recorded that it answers.
    """
    parameters = {"unbroken": unbroken, "together": together.total_seconds(), "kept": KEPT.total_seconds()}
    await transaction.execute(OBSERVE, parameters)


async def stretches(transaction: Transaction) -> Sequence[Stretch]:
    """The stretches of the last KEPT, the oldest first; some may overlap."""
    return [Stretch(row.since, row.until) for row in await transaction.rows(STRETCHES)]
