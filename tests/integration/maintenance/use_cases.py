"""A web app's tables, and the use cases of the maintenance service on them, without a broker."""

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
from tests.support.received import received

from taskbell.commands import CommandLog, Replies
from taskbell.contracts import CleanupCompletedTasks, GenerateTaskReport, UpdateTaskStatus
from taskbell.database import Database
from taskbell.messaging.consuming.delivery import Received
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.outbox import Outbox
from taskbell.settings import load
from taskbell_maintenance.cleanup import Cleanups
from taskbell_maintenance.figures import DeadLetters
from taskbell_maintenance.reports import DailyReports
from taskbell_maintenance.repository.locks import TaskLocks
from taskbell_maintenance.restore import Restore, Restored
from taskbell_maintenance.settings import MaintenanceSettings
from taskbell_maintenance.statuses import StatusUpdates

NOWHERE = "amqp://127.0.0.1:1/"
DAY = timedelta(days=1)


def settings_for(database_url: str, broker_url: str = NOWHERE, **given: Any) -> MaintenanceSettings:
    """Settings with the servers' URLs; all others are the defaults."""
    return load(MaintenanceSettings, database_url=database_url, broker_url=broker_url, **given)


class FixedDeadLetters:
    """Gives the number of dead letters without a broker."""

    def __init__(self) -> None:
        self.answer = DeadLetters({"notifier.dead": 0, "maintenance.dead": 0})

    async def count(self) -> DeadLetters:
        return self.answer


class Maintenance:
    """The app's tables, and the service's use cases on them."""

    def __init__(self, connection: asyncpg.Connection, database: Database, zone: str = "UTC") -> None:
        self.connection = connection
        self.database = database
        self.now = datetime.now(UTC)
        log = CommandLog(database, Replies(Publisher(NOWHERE, name="no replies")))
        locks, outbox = TaskLocks(database.app), Outbox("maintenance")
        self.dead_letters = FixedDeadLetters()
        self.statuses = StatusUpdates(log, locks, outbox)
        self.cleanups = Cleanups(database, log, locks, outbox, retention_days=30, max_share=Decimal("0.20"))
        self.reports = DailyReports(log, self.dead_letters, outbox, app=database.app, zone=ZoneInfo(zone))  # type: ignore[arg-type]

    # --- the tables

    async def execute(self, sql: str, *values: Any) -> str:
        """Runs SQL; several statements if there are no values."""
        return str(await self.connection.execute(sql, *values))

    async def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """The rows that a query finds."""
        return [dict(row) for row in await self.connection.fetch(sql, *values)]

    async def value(self, sql: str, *values: Any) -> Any:
        """The first column of the first row that a query finds."""
        return await self.connection.fetchval(sql, *values)

    async def task(self, **columns: Any) -> int:
        """Inserts a task, pending unless given otherwise; returns its id."""
        row = {"title": "A task", "status": "pending", "created_at": self.now, "updated_at": self.now} | columns
        places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        sql = f"INSERT INTO tasks ({', '.join(row)}) VALUES ({places}) RETURNING id"
        return int(await self.value(sql, *row.values()))

    async def done(self, days: float, **columns: Any) -> int:
        """Inserts a task that was completed that many days ago; returns its id."""
        at = self.now - timedelta(days=days)
        return await self.task(**({"status": "done", "completed_at": at, "updated_at": at} | columns))

    async def many(self, number: int, status: str = "pending", days: float = 0) -> None:
        """Inserts many tasks of that status; done ones were completed that many days ago."""
        at = self.now - timedelta(days=days)
        await self.execute(
            "INSERT INTO tasks (title, status, created_at, updated_at, completed_at)"
            " SELECT 'Task ' || i, $2::text, $3, $3, CASE WHEN $2::text = 'done' THEN $3::timestamptz END"
            " FROM generate_series(1, $1) AS i",
            number,
            status,
            at,
        )

    async def status(self, task: int) -> str | None:
        """A task's status; None if the task does not exist."""
        found: str | None = await self.value("SELECT status::text FROM tasks WHERE id = $1", task)
        return found

    async def ids(self) -> list[int]:
        """The ids of all tasks, in order."""
        return [row["id"] for row in await self.rows("SELECT id FROM tasks ORDER BY id")]

    # --- the use cases

    async def update(self, *commands: Received[UpdateTaskStatus]) -> list[dict[str, Any]]:
        """Applies status updates as one set; returns the outcome of each."""
        await self.statuses.update(commands)
        return [await self.outcome(command.message_id) for command in commands]

    async def clean_up(self, message_id: str | None = None, **body: Any) -> dict[str, Any]:
        """Carries out a cleanup; returns its outcome."""
        command = received(CleanupCompletedTasks(**body), message_id)
        await self.cleanups.clean_up([command])
        return await self.outcome(command.message_id)

    async def report(self, message_id: str | None = None, **body: Any) -> dict[str, Any]:
        """Makes a report; returns the command's outcome."""
        command = received(GenerateTaskReport(**body), message_id)
        await self.reports.generate([command])
        return await self.outcome(command.message_id)

    async def restore(self, batch_id: int, task: int | None = None) -> Restored:
        """Restores a batch, or one task of it."""
        return await Restore(self.database).restore(batch_id, task)

    # --- results

    async def outcome(self, message_id: str) -> dict[str, Any]:
        """The outcome of a command: state, result, reason."""
        (row,) = await self.rows("SELECT state, result, reason FROM taskbell.command WHERE message_id = $1", message_id)
        return row

    async def events(self, routing_key: str) -> list[dict[str, Any]]:
        """The bodies of the events in the outbox, in order."""
        rows = await self.rows("SELECT body FROM taskbell.outbox WHERE routing_key = $1 ORDER BY id", routing_key)
        return [row["body"] for row in rows]

    async def archived(self) -> dict[int, dict[str, Any]]:
        """All archived rows, by task id."""
        rows = await self.rows("SELECT task_id, row FROM taskbell.archived_task ORDER BY task_id")
        return {row["task_id"]: row["row"] for row in rows}


def status_update(task_id: int, status: str, message_id: str | None = None, **body: Any) -> Received[UpdateTaskStatus]:
    """A command to give a task a status."""
    known = {"task_id": task_id, "new_status": status} | body
    return received(UpdateTaskStatus.model_validate_json(json.dumps(known)), message_id)


@contextlib.asynccontextmanager
async def open_maintenance(database_url: str, zone: str = "UTC", **given: Any) -> AsyncIterator[Maintenance]:
    """The tables and use cases on that database; its connections are closed at the end."""
    connection = await connect(database_url)
    database = Database.connect(settings_for(database_url, **given), name="tests")
    try:
        yield Maintenance(connection, database, zone)
    finally:
        await database.close()
        await connection.close()


async def connect(database_url: str) -> asyncpg.Connection:
    """A connection as the app has it; jsonb is read and written as Python values."""
    # A user of our schema's name would find, and make, tables there first.
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "public"})
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    return connection


def states(outcomes: Sequence[dict[str, Any]]) -> list[str]:
    """The states of outcomes."""
    return [outcome["state"] for outcome in outcomes]
