"""Somebody who carries out status updates and answers them, for tests of those who ask."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial

from taskbell.commands import CommandLog, Outcome, Replies
from taskbell.contracts import UpdateTaskStatus
from taskbell.database import Database, Transaction
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.messaging.consuming.consumers import Consumers
from taskbell.messaging.consuming.delivery import Received
from taskbell.messaging.consuming.subscription import Subscription
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.metrics import Metrics
from taskbell.outbox import Outbox, Relay
from taskbell.settings import CommonSettings, load
from tests.support.probes import ping

QUEUE = "maintenance.update_task_status"


@contextlib.asynccontextmanager
async def status_updates_answered(database_url: str, broker_url: str) -> AsyncIterator[None]:
    """Carries out `maintenance.update_task_status`, and publishes what apps enqueued, as long as the block lasts."""
    settings = load(CommonSettings, database_url=database_url, broker_url=broker_url)
    database = Database.connect(settings, name="test responder")
    publisher = Publisher(broker_url, name="test responder publish")
    replies = Replies(Publisher(broker_url, name="test responder replies"))
    log = CommandLog(database, replies)
    health, metrics = Health(), Metrics()
    gate = Gate("postgresql", partial(ping, database), health)

    async def handle(commands: Sequence[Received[UpdateTaskStatus]]) -> None:
        await log.run(commands, _updated)

    subscription = Subscription(QUEUE, UpdateTaskStatus, handle, on_invalid=log.refuse, on_dead=log.fail)
    common = {"publisher": publisher, "health": health, "metrics": metrics}
    consumers = Consumers(broker_url, [subscription], name="test responder", gates=[gate], **common)
    outbox = Outbox("maintenance")
    relay = Relay(database, publisher, outbox, gate=gate, health=health, metrics=metrics, also=["app"])
    stop = asyncio.Event()
    parts = [asyncio.create_task(part.run(stop)) for part in (gate, consumers, relay)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*parts)
        await replies.close()
        await publisher.close()
        await database.close()


async def _updated(transaction: Transaction, commands: Sequence[Received[UpdateTaskStatus]]) -> list[Outcome]:
    outcomes = []
    for command in commands:
        task, status = command.body.task_id, str(command.body.new_status)
        old = await transaction.value("SELECT status FROM public.tasks WHERE id = :id", {"id": task})
        if old is None:
            outcomes.append(Outcome.rejected(f"task {task} does not exist"))
        elif old == status:
            outcomes.append(Outcome.unchanged(task_id=task, old_status=old, new_status=status))
        else:
            await transaction.execute(
                "UPDATE public.tasks SET status = :status WHERE id = :id", {"id": task, "status": status}
            )
            outcomes.append(Outcome.done(task_id=task, old_status=old, new_status=status))
    return outcomes
