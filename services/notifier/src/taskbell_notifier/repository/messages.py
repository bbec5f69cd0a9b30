"""The notifier's rows among the outbox and the commands: only to prune them, the shared library does the rest."""

from datetime import timedelta

from taskbell.database import Transaction

PRUNE_OUTBOX = """
    DELETE FROM taskbell.outbox WHERE id IN (
        SELECT id FROM taskbell.outbox
        WHERE owner = 'notifier' AND published_at < now() - make_interval(secs => :age)
        ORDER BY published_at
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
"""

PRUNE_COMMANDS = """
    DELETE FROM taskbell.command WHERE message_id IN (
        SELECT message_id FROM taskbell.command
        WHERE finished_at < now() - make_interval(secs => :age) AND routing_key = 'notifier.send_test_mail'
        ORDER BY finished_at
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
"""


async def prune_outbox(tx: Transaction, *, age: timedelta, limit: int) -> int:
    """Deletes at most `limit` messages published so long ago; returns how many."""
    result = await tx.execute(PRUNE_OUTBOX, {"age": age.total_seconds(), "limit": limit})
    return result.rowcount


async def prune_commands(tx: Transaction, *, age: timedelta, limit: int) -> int:
    """Deletes at most `limit` outcomes of commands finished so long ago; returns how many."""
    result = await tx.execute(PRUNE_COMMANDS, {"age": age.total_seconds(), "limit": limit})
    return result.rowcount
