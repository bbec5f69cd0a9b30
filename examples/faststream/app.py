"""Keeps hours: a task that was done is noted, and each hundredth asks Taskbell for a report."""

import asyncio
import os

from faststream import FastStream
from faststream.rabbit import RabbitBroker
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taskbell.contracts import GenerateTaskReport, TaskStatusChanged
from taskbell.faststream import MessageEnvelope, TaskbellRouter, Transaction
from taskbell.faststream.postgresql import HandledInPostgresql

NOTE = text("INSERT INTO timesheets.entry (task_id) VALUES (:task)")
COUNT = text("SELECT count(*) FROM timesheets.entry")


def timesheets(engine: AsyncEngine) -> TaskbellRouter:
    """The app's handlers."""
    taskbell = TaskbellRouter("timesheets", handled=HandledInPostgresql(engine, "timesheets.handled_message"))
    reports = taskbell.publishes(GenerateTaskReport)

    @taskbell.consumes(TaskStatusChanged)
    async def changed(task: TaskStatusChanged, envelope: MessageEnvelope, transaction: Transaction) -> None:
        if task.new_status != "done":
            return
        await transaction.execute(NOTE, {"task": task.task_id})
        if (await transaction.execute(COUNT)).scalar() % 100 == 0:
            # If this handler runs again, its report has the same message_id, and is made once.
            await reports.publish(GenerateTaskReport(), message_id=f"{envelope.message_id}.report", cause=envelope)

    return taskbell


async def main() -> None:
    broker = RabbitBroker(os.environ["BROKER_URL"])  # amqp://…
    engine = create_async_engine(os.environ["DATABASE_URL"])  # postgresql+asyncpg://…
    broker.include_router(timesheets(engine))
    await FastStream(broker).run()


if __name__ == "__main__":
    asyncio.run(main())
