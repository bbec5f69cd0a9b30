"""SQL of the commands that show, pause and resume schedules."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from taskbell.database import Transaction
from taskbell_scheduler.domain import EVERY_ZONE, PairState
from taskbell_scheduler.repository.scheduling import COLUMNS

_STATUS = f"""
    SELECT {COLUMNS} FROM taskbell.schedule_state
    WHERE CAST(:schedule AS text) IS NULL OR schedule = :schedule
    ORDER BY schedule, zone
"""

_HISTORY = """
    SELECT zone, at, key, status, occurrences, reason, message_id, recorded_at FROM taskbell.occurrence
    WHERE schedule = :schedule AND (CAST(:zone AS text) IS NULL OR zone = :zone)
    ORDER BY at DESC, zone
    LIMIT :limit
"""

# A zone that no user has yet gets its row all the same, so that it starts paused with its first user.
_PAUSE = """
    INSERT INTO taskbell.schedule_state AS s (schedule, zone, position, active, paused, paused_at, note)
    VALUES (:schedule, :zone, now(), false, true, now(), :note)
    ON CONFLICT (schedule, zone) DO UPDATE
    SET paused = true, paused_at = coalesce(s.paused_at, now()), resumed_at = NULL, note = EXCLUDED.note,
        updated_at = now()
"""

# Rows are locked in the order in which a scheduler locks them, so that the two never wait for each other.
_RESUME = """
    UPDATE taskbell.schedule_state
    SET paused = false, paused_at = coalesce(paused_at, now()), resumed_at = now(), note = NULL, updated_at = now()
    WHERE (schedule, zone) IN (
        SELECT schedule, zone FROM taskbell.schedule_state
        WHERE schedule = :schedule AND (CAST(:zone AS text) IS NULL OR zone = :zone) AND paused
        ORDER BY schedule, zone
        FOR UPDATE
    )
    RETURNING zone
"""


@dataclass(frozen=True, slots=True)
class RecordedOccurrence:
    """A row of a schedule's history."""

    zone: str
    at: datetime
    key: str
    status: str
    occurrences: int
    reason: str | None
    message_id: str | None
    recorded_at: datetime


async def states(transaction: Transaction, schedule: str | None) -> Sequence[PairState]:
    """The rows of that schedule, or of all if it is None. The row of EVERY_ZONE is a pause of the whole schedule."""
    return [PairState(**row) for row in await transaction.mappings(_STATUS, {"schedule": schedule})]


async def history(
    transaction: Transaction, schedule: str, zone: str | None, limit: int
) -> Sequence[RecordedOccurrence]:
    """How that schedule's occurrences ended, the newest first."""
    parameters = {"schedule": schedule, "zone": zone, "limit": limit}
    return [RecordedOccurrence(**row) for row in await transaction.mappings(_HISTORY, parameters)]


async def pause(transaction: Transaction, schedule: str, zone: str | None, note: str | None) -> None:
    """From now on, occurrences are recorded as paused: in that zone, or in all zones, including new ones."""
    await transaction.execute(_PAUSE, {"schedule": schedule, "zone": zone or EVERY_ZONE, "note": note})


async def resume(transaction: Transaction, schedule: str, zone: str | None) -> Sequence[str]:
    """Ends the pause of that zone, or every pause of that schedule; returns the zones whose pause it ended."""
    rows = await transaction.rows(_RESUME, {"schedule": schedule, "zone": zone})
    return sorted(row.zone for row in rows)
