"""SQL of the commands: look what became of schedules, pause, resume."""

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

_PAUSE = """
    INSERT INTO taskbell.schedule_state AS s (schedule, zone, position, active, paused, paused_at, note)
    VALUES (:schedule, :zone, now(), false, true, now(), :note)
    ON CONFLICT (schedule, zone) DO UPDATE
    SET paused = true, paused_at = coalesce(s.paused_at, now()), resumed_at = NULL, note = EXCLUDED.note,
        updated_at = now()
"""
# A zone that nobody has yet gets its row all the same: it starts paused when its first user comes.

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
# In the order in which a scheduler takes them, so that the two never wait for each other.


@dataclass(frozen=True, slots=True)
class Past:
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
    """The rows of that schedule, or of all; a pause of the schedule as a whole is the row of EVERY_ZONE."""
    return [PairState(**row) for row in await transaction.mappings(_STATUS, {"schedule": schedule})]


async def history(transaction: Transaction, schedule: str, zone: str | None, limit: int) -> Sequence[Past]:
    """What became of that schedule's occurrences, newest first."""
    parameters = {"schedule": schedule, "zone": zone, "limit": limit}
    return [Past(**row) for row in await transaction.mappings(_HISTORY, parameters)]


async def pause(transaction: Transaction, schedule: str, zone: str | None, note: str | None) -> None:
    """From now on what falls due is recorded as paused: in that zone, or in all, also in those to come."""
    await transaction.execute(_PAUSE, {"schedule": schedule, "zone": zone or EVERY_ZONE, "note": note})


async def resume(transaction: Transaction, schedule: str, zone: str | None) -> Sequence[str]:
    """Ends the pause of that zone, or every pause of that schedule; returns the zones whose pause it ended."""
    rows = await transaction.rows(_RESUME, {"schedule": schedule, "zone": zone})
    return sorted(row.zone for row in rows)
