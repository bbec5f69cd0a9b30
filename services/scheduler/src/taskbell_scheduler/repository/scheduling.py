"""SQL of the running scheduler."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import RowMapping

from taskbell import cuts
from taskbell.database import Transaction
from taskbell.pruning import EndedRows
from taskbell_scheduler.domain import EVERY_ZONE, Decision, Pair, PairState
from taskbell_scheduler.reconcile import ANY, GONE, Changes

STALLED = timedelta(seconds=5)
"""A scheduler that stands still inside a transaction for this long loses it, so that another one can go on."""

LOCK_TIMEOUT = timedelta(seconds=2)
"""How long to wait for rows of our table that others hold, and for the table of users."""

# People set positions, too, and Python has no datetime for infinity and the year 20000.
COLUMNS = """
    schedule, zone, cron, least(greatest(position, '0002-01-01Z'), '9000-01-01Z') AS position,
    active, paused, paused_at, resumed_at, generation, note
"""

_STATES = f"SELECT {COLUMNS} FROM taskbell.schedule_state"

# Every write gives a row a new version with a higher number. This sum is cheaper to read than thousands of rows.
_FINGERPRINT = """
    SELECT clock_timestamp() AS now, count(*) AS rows, coalesce(sum(CAST(CAST(xmin AS text) AS bigint)), 0) AS versions
    FROM taskbell.schedule_state
"""

# If a row is locked, another scheduler is deciding about it, or a person is changing it. The others go on without it.
_LOCKED = f"""
    SELECT {COLUMNS} FROM taskbell.schedule_state
    WHERE (schedule, zone) IN (SELECT * FROM unnest(CAST(:schedules AS text[]), CAST(:zones AS text[])))
    FOR UPDATE SKIP LOCKED
"""

_WHOLE_SCHEDULES = f"{_STATES} WHERE zone = '{EVERY_ZONE}' AND schedule = ANY(CAST(:schedules AS text[]))"

# Whoever locks several rows does so in this order, so that no two wait for each other.
_LOCK_ALL = "SELECT FROM taskbell.schedule_state ORDER BY schedule, zone FOR UPDATE"

_START = """
    INSERT INTO taskbell.schedule_state AS s (schedule, zone, cron, position, generation, updated_at)
    SELECT schedule, zone, cron, clock_timestamp(), :generation, now()
    FROM unnest(CAST(:schedules AS text[]), CAST(:zones AS text[]), CAST(:crons AS text[])) AS e (schedule, zone, cron)
    ORDER BY schedule, zone
    ON CONFLICT (schedule, zone) DO UPDATE
    SET cron = EXCLUDED.cron, position = EXCLUDED.position, active = true, updated_at = now(),
        generation = greatest(s.generation, EXCLUDED.generation)
    WHERE CASE WHEN s.cron IN (EXCLUDED.cron, :any) THEN NOT s.active ELSE s.generation < EXCLUDED.generation END
"""

_ADOPT = """
    UPDATE taskbell.schedule_state AS s
    SET cron = e.cron, generation = greatest(s.generation, :generation), updated_at = now()
    FROM unnest(CAST(:schedules AS text[]), CAST(:zones AS text[]), CAST(:crons AS text[])) AS e (schedule, zone, cron)
    WHERE (s.schedule, s.zone) = (e.schedule, e.zone) AND s.cron = :any
"""

# Another scheduler may have seen a user in that zone after we looked. We must not end what it has started since.
_RETIRE = """
    UPDATE taskbell.schedule_state SET active = false, updated_at = now()
    WHERE (schedule, zone) IN (SELECT * FROM unnest(CAST(:schedules AS text[]), CAST(:zones AS text[])))
      AND updated_at <= CAST(:seen_at AS timestamptz)
"""

_REMOVE = """
    UPDATE taskbell.schedule_state SET active = false, cron = :gone, generation = :generation, updated_at = now()
    WHERE (schedule, zone) IN (SELECT * FROM unnest(CAST(:schedules AS text[]), CAST(:zones AS text[])))
      AND generation < :generation
"""

_STAMP = """
    UPDATE taskbell.schedule_state
    SET paused_at = coalesce(paused_at, now()), resumed_at = CASE WHEN NOT paused THEN now() END
    WHERE CASE
        WHEN paused THEN paused_at IS NULL OR resumed_at IS NOT NULL
        ELSE paused_at IS NOT NULL AND resumed_at IS NULL
    END
"""

_FORGET = f"""
    UPDATE taskbell.schedule_state SET paused_at = NULL, resumed_at = NULL
    WHERE zone = '{EVERY_ZONE}' AND NOT paused AND schedule = ANY(CAST(:schedules AS text[]))
"""

# The fence: of all schedulers that try, only one gets the row, and only that one writes the message. The row keeps the
# message_id, which is random: nobody can put another message in its place beforehand.
_RECORD = """
    INSERT INTO taskbell.occurrence (schedule, zone, key, at, status, occurrences, reason, message_id)
    SELECT * FROM unnest(
        CAST(:schedules AS text[]), CAST(:zones AS text[]), CAST(:keys AS text[]), CAST(:ats AS timestamptz[]),
        CAST(:statuses AS text[]), CAST(:counts AS bigint[]), CAST(:reasons AS text[]), CAST(:message_ids AS text[])
    )
    ON CONFLICT (schedule, zone, key) DO NOTHING
    RETURNING schedule, zone, key, message_id
"""

_PUBLISH = """
    INSERT INTO taskbell.outbox (owner, routing_key, body, message_id)
    SELECT 'scheduler', routing_key, body, message_id
    FROM unnest(CAST(:routing_keys AS text[]), CAST(:bodies AS jsonb[]), CAST(:message_ids AS text[]))
        AS m (routing_key, body, message_id)
"""

_MOVE_ON = """
    UPDATE taskbell.schedule_state AS s
    SET position = d.position, updated_at = now(),
        paused_at = CASE WHEN d.pause_ends THEN NULL ELSE s.paused_at END,
        resumed_at = CASE WHEN d.pause_ends THEN NULL ELSE s.resumed_at END
    FROM unnest(
        CAST(:schedules AS text[]), CAST(:zones AS text[]), CAST(:positions AS timestamptz[]),
        CAST(:pause_ends AS boolean[])
    ) AS d (schedule, zone, position, pause_ends)
    WHERE (s.schedule, s.zone) = (d.schedule, d.zone)
"""

PRUNED = EndedRows("taskbell.occurrence", "schedule, zone, key", "recorded_at")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows of `schedule_state`, and the database's time at which they were read."""

    now: datetime
    states: Mapping[Pair, PairState]


LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK = "40P01"
"""SQLSTATEs of a statement that did not get its lock."""

UNIQUE_VIOLATION = "23505"
"""SQLSTATE of a statement that met a row with the same key."""

Fingerprint = tuple[int, int]

OccurrenceKey = tuple[str, str, str]
"""Schedule, zone and key of an occurrence."""


async def next_generation(transaction: Transaction) -> int:
    """A number that is higher than that of every scheduler that has written so far."""
    found = await transaction.value("SELECT coalesce(max(generation), 0) + 1 FROM taskbell.schedule_state")
    return int(found)


async def fingerprint(transaction: Transaction) -> tuple[datetime, Fingerprint]:
    """The time, and a value that changes whenever the table changes."""
    row = await transaction.row(_FINGERPRINT)
    assert row is not None  # an aggregate always has its row
    return row.now, (int(row.rows), int(row.versions))


async def snapshot(transaction: Transaction) -> Snapshot:
    """All rows, and the time."""
    states = _states(await transaction.mappings(_STATES))
    return Snapshot(await _now(transaction), states)


async def zones_of_active_users(transaction: Transaction, app: str) -> tuple[datetime, list[str | None]]:
    """The time just before reading, and the zones of users, unknown names and null included.

    Args:
        app: the quoted schema of the web app's tables.

    Raises:
        DBAPIError: the web app's table is not as promised, or somebody locks it for longer than LOCK_TIMEOUT.
    """
    await _limit(transaction, "lock_timeout", LOCK_TIMEOUT)
    seen_at = await _now(transaction)
    # There are about 600 zones: if the column has more than 10,000 values, it holds something else.
    found = f"SELECT DISTINCT timezone FROM {app}.users WHERE is_active LIMIT 10000"
    zones = f"SELECT {cuts.word('timezone')} FROM ({found}) AS found"
    return seen_at, [row[0] for row in await transaction.rows(zones)]


async def apply(
    transaction: Transaction, changes: Changes, generation: int, zones_seen_at: datetime | None = None
) -> None:
    """Writes the changes, except those that another scheduler made first.

    Args:
        zones_seen_at: when the zones of users were read; rows that were changed later are not retired.

    Raises:
        DBAPIError: with LOCK_NOT_AVAILABLE, somebody held a row for longer than LOCK_TIMEOUT.
    """
    await _limit(transaction, "lock_timeout", LOCK_TIMEOUT)
    await _limit(transaction, "idle_in_transaction_session_timeout", STALLED)
    await transaction.execute(_LOCK_ALL)
    for statement, expressions in ((_START, changes.start), (_ADOPT, changes.adopt)):
        if expressions:
            parameters = _pairs([pair for pair, _ in expressions])
            parameters |= {"crons": [cron for _, cron in expressions], "generation": generation, "any": ANY}
            await transaction.execute(statement, parameters)
    if changes.retire:
        await transaction.execute(_RETIRE, _pairs(changes.retire) | {"seen_at": zones_seen_at})
    if changes.remove:
        await transaction.execute(_REMOVE, _pairs(changes.remove) | {"generation": generation, "gone": GONE})
    if changes.stamp:
        await transaction.execute(_STAMP)
    if changes.forget:
        await transaction.execute(_FORGET, {"schedules": list(changes.forget)})


async def lock(transaction: Transaction, pairs: Collection[Pair]) -> Snapshot:
    """Locks, until the transaction ends, those of the rows that nobody else holds; also reads their pauses."""
    await _limit(transaction, "idle_in_transaction_session_timeout", STALLED)
    states = _states(await transaction.mappings(_LOCKED, _pairs(pairs)))
    whole = await transaction.mappings(_WHOLE_SCHEDULES, {"schedules": sorted({pair[0] for pair in pairs})})
    return Snapshot(await _now(transaction), states | _states(whole))


async def record(transaction: Transaction, decisions: Sequence[Decision]) -> Collection[OccurrenceKey]:
    """Writes occurrences, the messages of those that are published, and the new positions.

    Returns:
        the occurrences that were not recorded before; only messages of these were written.

    Raises:
        DBAPIError: with UNIQUE_VIOLATION, a row of the outbox has the message_id of one; nothing may be committed.
    """
    rows = [(decision, record) for decision in decisions for record in decision.records]
    recorded: dict[OccurrenceKey, str | None] = {}
    if rows:
        parameters = _pairs([decision.entry.pair for decision, _ in rows]) | {
            "keys": [record.key for _, record in rows],
            "ats": [record.at for _, record in rows],
            "statuses": [record.status for _, record in rows],
            "counts": [record.count for _, record in rows],
            "reasons": [record.reason for _, record in rows],
            "message_ids": [str(uuid4()) if record is decision.published else None for decision, record in rows],
        }
        written = await transaction.rows(_RECORD, parameters)
        recorded = {(row.schedule, row.zone, row.key): row.message_id for row in written}
        await _publish(transaction, decisions, recorded)
    parameters = _pairs([decision.entry.pair for decision in decisions]) | {
        "positions": [decision.position for decision in decisions],
        "pause_ends": [decision.pause_ends for decision in decisions],
    }
    await transaction.execute(_MOVE_ON, parameters)
    return recorded.keys()


async def _publish(
    transaction: Transaction, decisions: Sequence[Decision], recorded: Mapping[OccurrenceKey, str | None]
) -> None:
    messages: dict[str, list[Any]] = {"routing_keys": [], "bodies": [], "message_ids": []}
    for decision in decisions:
        published, (schedule, zone) = decision.published, decision.entry.pair
        identity = recorded.get((schedule, zone, published.key)) if published else None
        if published and identity:
            messages["routing_keys"].append(decision.entry.schedule.publish)
            messages["bodies"].append(json.dumps(decision.entry.schedule.body(published.at, zone)))
            messages["message_ids"].append(identity)
    if messages["bodies"]:
        await transaction.execute(_PUBLISH, messages)


async def _limit(transaction: Transaction, setting: str, limit: timedelta) -> None:
    milliseconds = f"{int(limit.total_seconds() * 1000)}ms"
    await transaction.execute("SELECT set_config(:setting, :limit, true)", {"setting": setting, "limit": milliseconds})


async def _now(transaction: Transaction) -> datetime:
    now: datetime = await transaction.value("SELECT clock_timestamp()")
    return now


def _pairs(pairs: Collection[Pair]) -> dict[str, Any]:
    return {"schedules": [schedule for schedule, _ in pairs], "zones": [zone for _, zone in pairs]}


def _states(rows: Sequence[RowMapping]) -> dict[Pair, PairState]:
    states = (PairState(**row) for row in rows)
    return {state.pair: state for state in states}
