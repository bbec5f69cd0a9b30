"""SQL of archive batches. Each cleanup has one, which holds its whole state."""

from dataclasses import dataclass
from datetime import datetime

from taskbell.contracts import CleanupCompletedTasks
from taskbell.database import Transaction
from taskbell.errors import TaskbellError
from taskbell.identity import ANOTHER, digest_of
from taskbell.messaging.consuming.delivery import Received
from taskbell_maintenance.domain import Mode, Progress

_OF_COMMAND = """
    SELECT id, mode, cutoff, message_id = :message_id AS is_own, body::text AS body FROM taskbell.archive_batch
    WHERE message_id = :message_id
        OR (CAST(:joins AS boolean) AND body = CAST(:body AS jsonb) AND finished_at IS NULL
            AND started_at > now() - interval '1 hour')
    ORDER BY message_id = :message_id DESC, id DESC
    LIMIT 1
"""

_OPEN = """
    INSERT INTO taskbell.archive_batch (message_id, body, mode, cutoff)
    VALUES (:message_id, CAST(:body AS jsonb), :mode, CAST(:cutoff AS timestamptz))
    ON CONFLICT (message_id) DO NOTHING
    RETURNING id
"""

_PROGRESS = """
    SELECT cursor, tasks, held, held_ids, held_reasons, finished_at IS NOT NULL AS finished
    FROM taskbell.archive_batch WHERE id = :id
    FOR UPDATE
"""

_RECORD = """
    UPDATE taskbell.archive_batch
    SET cursor = :cursor, tasks = :tasks, held = :held,
        held_ids = CAST(:held_ids AS bigint[]), held_reasons = CAST(:held_reasons AS text[])
    WHERE id = :id
"""

_FINISH = "UPDATE taskbell.archive_batch SET finished_at = now() WHERE id = :id AND finished_at IS NULL RETURNING id"


@dataclass(frozen=True, slots=True)
class Batch:
    """The batch of one cleanup."""

    id: int
    mode: Mode
    cutoff: datetime


class AnothersBatch(TaskbellError):
    """A cleanup that asked for something else has begun a batch under this message_id."""


async def batch_of(transaction: Transaction, command: Received[CleanupCompletedTasks]) -> Batch | None:
    """The batch that this command has begun; None: it has not begun one.

    If a command without a message_id is redelivered, that is an unfinished batch of the last hour with the same body.

    Raises:
        AnothersBatch: a cleanup that asked for something else has begun one under this message_id.
    """
    row = await transaction.row(
        _OF_COMMAND,
        {
            "message_id": command.message_id,
            "joins": command.envelope.anonymous and command.envelope.again,
            "body": command.body.to_bytes().decode(),
        },
    )
    if row is None:
        return None
    if row.is_own and digest_of(CleanupCompletedTasks.parse(row.body.encode())) != digest_of(command.body):
        raise AnothersBatch(ANOTHER)
    return Batch(row.id, row.mode, row.cutoff)


async def open_batch(
    transaction: Transaction, command: Received[CleanupCompletedTasks], cutoff: datetime
) -> Batch | None:
    """Begins a new batch; None: another delivery of the command was faster."""
    known = {
        "message_id": command.message_id,
        "body": command.body.to_bytes().decode(),
        "mode": command.body.mode,
        "cutoff": cutoff,
    }
    batch = await transaction.value(_OPEN, known)
    return None if batch is None else Batch(batch, command.body.mode, cutoff)


async def lock_progress(transaction: Transaction, batch: Batch) -> tuple[Progress, bool]:
    """Locks the batch until this transaction ends; returns its progress, and whether it is finished."""
    row = await transaction.row(_PROGRESS, {"id": batch.id})
    assert row is not None  # batches are never deleted
    return Progress(row.cursor, row.tasks, row.held, tuple(row.held_ids), tuple(row.held_reasons)), row.finished


async def record(transaction: Transaction, batch: Batch, progress: Progress) -> None:
    """Stores the progress, in the transaction in which it was made."""
    known = {
        "id": batch.id,
        "cursor": progress.cursor,
        "tasks": progress.tasks,
        "held": progress.held,
        "held_ids": list(progress.held_ids),
        "held_reasons": list(progress.held_reasons),
    }
    await transaction.execute(_RECORD, known)


async def finish(transaction: Transaction, batch: Batch) -> bool:
    """Marks the batch finished; returns False if it was finished before."""
    return await transaction.value(_FINISH, {"id": batch.id}) is not None
