"""One service's outbox and relay, for tests that look at what it publishes."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from tests.support.management import Message
from tests.support.probes import ping
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell.contracts import TaskStatus, UpdateTaskStatus
from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.metrics import Metrics
from taskbell.outbox import Outbox, OutboxMessage, Owner, Relay

WEEKLY = "notifier.weekly_due"


INSERT = "INSERT INTO taskbell.outbox (owner, routing_key, body, message_id) VALUES ('maintenance', :k, '{}', :m)"


class RelayHarness:
    """One service's outbox and relay.

    Args:
        timeout: seconds for a confirm; long, because what is late is published again, which tests count.
    """

    def __init__(
        self,
        database: Database,
        url: str,
        owner: Owner = "maintenance",
        also: Sequence[Owner] = (),
        *,
        timeout: float = 30.0,
    ) -> None:
        self.database = database
        self.health = Health()
        self.metrics = Metrics()
        self.outbox = Outbox(owner)
        self.gate = Gate("postgresql", partial(ping, database), self.health)
        self.publisher = Publisher(url, name=f"{owner} publish", timeout=timeout)
        self.relay = Relay(
            database,
            self.publisher,
            self.outbox,
            gate=self.gate,
            health=self.health,
            metrics=self.metrics,
            also=also,
        )
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(part.run(self._stop)) for part in (self.gate, self.relay)]

    async def close(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await self.publisher.close()

    async def write(self, *numbers: int) -> None:
        async with self.database.transaction() as transaction:
            await self.outbox.add(transaction, [command(number) for number in numbers])

    @property
    def state(self) -> Any:
        return self.health.report()["parts"]["outbox"]

    async def waiting(self) -> int:
        async with self.database.transaction() as transaction:
            return int(await transaction.value("SELECT count(*) FROM taskbell.outbox WHERE published_at IS NULL"))

    async def all_published(self) -> None:
        async def none_waits() -> bool:
            return await self.waiting() == 0

        await eventually(none_waits)


def command(number: int) -> OutboxMessage:
    return OutboxMessage(UpdateTaskStatus(task_id=1 + number, new_status=TaskStatus.DONE), message_id=f"m-{number}")


def ids(messages: Sequence[Message]) -> list[str]:
    return [message.properties["message_id"] for message in messages]


async def rows(database: Database, columns: str) -> list[Any]:
    async with database.transaction() as transaction:
        return list(await transaction.rows(f"SELECT {columns} FROM taskbell.outbox ORDER BY id"))


async def ready_in(vhost: Vhost, queue: str) -> int:
    """The messages that wait in a queue."""
    return (await vhost.management.depth(queue)).ready
