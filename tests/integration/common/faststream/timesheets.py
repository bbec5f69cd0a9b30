"""An app of other people's on FastStream, on real servers: it notes which tasks are done, and approves entries."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from faststream.rabbit import RabbitBroker
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from tests.support.waiting import eventually

from taskbell.contracts import TaskStatusChanged
from taskbell.faststream import MessageEnvelope, TaskbellRouter, Transaction
from taskbell.faststream.postgresql import HandledInPostgresql
from taskbell.messaging.consuming.delivery import Envelope
from taskbell.outcomes import Outcome

QUEUE = "timesheets.task_status_changed"
DEAD = "timesheets.dead"
TABLE = "timesheets.handled_message"
# As docs/faststream.md has it.
TABLES = """
    CREATE SCHEMA timesheets;
    CREATE TABLE timesheets.handled_message (
        queue text, message_id text, outcome jsonb, handled_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (queue, message_id)
    );
    CREATE TABLE timesheets.entry (task_id bigint, status text);
"""
NOTE = text("INSERT INTO timesheets.entry VALUES (:task, :status)")


class Timesheets:
    """The app; a test may tell its handler to wait or to fail."""

    def __init__(self, broker_url: str, database_url: str) -> None:
        self._engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://"))
        self.handled = HandledInPostgresql(self._engine, TABLE)
        self.broker = RabbitBroker(broker_url, logger=None, log_level=logging.CRITICAL)
        self.router = TaskbellRouter("timesheets", handled=self.handled)
        self.tries: list[Envelope] = []
        self.before: Callable[[TaskStatusChanged], Awaitable[object]] | None = None

        @self.router.consumes(TaskStatusChanged)
        async def changed(task: TaskStatusChanged, envelope: MessageEnvelope, transaction: Transaction) -> None:
            self.tries.append(envelope)
            connection: AsyncConnection = transaction
            await connection.execute(NOTE, {"task": task.task_id, "status": task.new_status})
            if self.before is not None:
                await self.before(task)

    def approves(self, contract: Any) -> None:
        """It also consumes its own command."""

        @self.router.consumes(contract)
        async def approve(command: contract) -> Outcome:
            return Outcome.done(approved=command.entry_id)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.broker.include_router(self.router)
        try:
            await self.broker.start()
            yield
        finally:
            await self.broker.stop()
            await self._engine.dispose()

    async def entries(self) -> list[tuple[int, str]]:
        """What it has noted."""
        async with self._engine.connect() as connection:
            found = await connection.execute(text("SELECT task_id, status FROM timesheets.entry ORDER BY 1"))
            return [(row.task_id, row.status) for row in found]

    async def until(self, entries: int) -> None:
        """Waits until it has noted so many."""
        await eventually(lambda: self._has(entries), what=f"{entries} entries")

    async def _has(self, entries: int) -> bool:
        return len(await self.entries()) >= entries
