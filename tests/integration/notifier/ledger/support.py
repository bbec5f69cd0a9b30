"""What the ledger's tests need: people and their tasks, a running notifier, and what the ledger says."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support import received as support
from tests.support.waiting import eventually

from taskbell.contracts import Contract
from taskbell.database import Database, Transaction
from taskbell.messaging.consuming.delivery import Received
from taskbell.service import Application, Process
from taskbell.settings import load
from taskbell_notifier.app import build
from taskbell_notifier.settings import NotifierSettings

SENDER = "Taskbell <bell@example.org>"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def settings_for(
    database_url: str, *, smtp_port: int = 9, broker_url: str = "amqp://127.0.0.1:9/", **given: Any
) -> Any:
    """The notifier's settings; what a test relies on is not read from the environment."""
    return load(
        NotifierSettings,
        **{
            "database_url": database_url,
            "broker_url": broker_url,
            "mail_server": "127.0.0.1",
            "mail_port": smtp_port,
            "mail_default_sender": SENDER,
            "mail_timeout": 5,
            "mail_data_timeout": 20,
            "database_pool_size": 6,
            "app_url": "https://app.example.org",
        }
        | given,
    )


@dataclass
class NotifierTables:
    """The web app's tables, which tests fill, and the notifier's own tables, which tests read."""

    database: Database
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    last_task: int = 0

    async def user(self, number: int, **columns: Any) -> int:
        """Inserts a user; by default active, in UTC, at `userN@example.org`; returns the id."""
        row = {
            "id": number,
            "name": f"User {number}",
            "email": f"user{number}@example.org",
            "timezone": "UTC",
            "is_active": True,
        } | columns
        await self._insert("public.users", row)
        return number

    async def task(self, assignee: int | None, *, due: timedelta | None, **columns: Any) -> int:
        """Inserts a pending task that is due that long after now; returns its id."""
        self.last_task += 1
        row = {
            "id": self.last_task,
            "title": f"Task {self.last_task}",
            "status": "pending",
            "priority": "medium",
            "assignee_id": assignee,
            "due_date": None if due is None else self.now + due,
        } | columns
        await self._insert("public.tasks", row)
        return self.last_task

    async def late_people(self, *numbers: int) -> None:
        """Inserts users with one overdue task each."""
        for number in numbers:
            await self.user(number)
            await self.task(number, due=-DAY)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        """One in which a test's own SQL finds the app's tables without their schema."""
        async with self.database.transaction() as tx:
            await tx.execute("SET LOCAL search_path = public")
            yield tx

    async def execute(self, sql: str, **parameters: Any) -> None:
        async with self._transaction() as tx:
            await tx.execute(sql, parameters)

    async def rows(self, sql: str, **parameters: Any) -> list[Mapping[str, Any]]:
        async with self._transaction() as tx:
            return [dict(row) for row in await tx.mappings(sql, parameters)]

    async def value(self, sql: str, **parameters: Any) -> Any:
        async with self._transaction() as tx:
            return await tx.value(sql, parameters)

    async def deliveries(self) -> dict[str, Mapping[str, Any]]:
        """The ledger's rows by recipient; fails if one has several."""
        rows = await self.rows("SELECT * FROM taskbell.delivery ORDER BY id")
        found = {row["recipient"]: row for row in rows}
        assert len(found) == len(rows), "a recipient has several rows"
        return found

    async def delivery(self) -> Mapping[str, Any]:
        """The ledger's only row."""
        (row,) = await self.rows("SELECT * FROM taskbell.delivery")
        return row

    async def states(self) -> dict[str, str]:
        """State by recipient."""
        return {recipient: row["state"] for recipient, row in (await self.deliveries()).items()}

    async def outbox(self, routing_key: str) -> list[Mapping[str, Any]]:
        """The bodies of the outbox with that routing key, in the order in which they were written."""
        rows = await self.rows(
            "SELECT body::text AS body FROM taskbell.outbox WHERE routing_key = :key ORDER BY id", key=routing_key
        )
        return [json.loads(row["body"]) for row in rows]

    async def all_ended(self, count: int) -> None:
        """Waits until that many rows have ended and no row is open."""

        async def look() -> bool:
            (row,) = await self.rows(
                "SELECT count(*) FILTER (WHERE ended_at IS NULL) AS open, count(*) AS rows FROM taskbell.delivery"
            )
            assert (row["open"], row["rows"]) == (0, count), dict(row)
            return True

        await eventually(look)

    async def completed(self, count: int) -> list[Mapping[str, Any]]:
        """Waits until that many mailings are completed; returns their rows."""

        async def look() -> list[Mapping[str, Any]]:
            rows = await self.rows(
                "SELECT *, counts::text AS counted FROM taskbell.mailing WHERE completed_at IS NOT NULL ORDER BY id"
            )
            return [row | {"counts": json.loads(row["counted"])} for row in rows] if len(rows) >= count else []

        return await eventually(look)

    async def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        columns = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        await self.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})", **row)


@dataclass
class Running:
    """A notifier that runs in this process."""

    application: Application
    process: Process
    stop: asyncio.Event


@asynccontextmanager
async def running(settings: NotifierSettings) -> AsyncIterator[Running]:
    """Runs a notifier as its service would, from readiness until it is drained."""
    process = Process()
    application = build(settings, process)
    stop = asyncio.Event()
    parts = [asyncio.create_task(part.run(stop)) for part in application.parts]
    try:
        await eventually(lambda: process.health.ready, what="readiness")
        yield Running(application, process, stop)
    finally:
        stop.set()
        await asyncio.gather(*parts)
        for close in application.close:
            await close()


def received(body: Contract, message_id: str = "m1", **envelope: Any) -> Received[Any]:
    """A message with that body, as a handler gets it; always the same unless it is given another message_id."""
    return support.received(body, message_id, **envelope)
