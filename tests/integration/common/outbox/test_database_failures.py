"""A PostgreSQL of our own that goes away under work: everything waits, and everything takes effect once."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from functools import partial

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import create_async_engine
from tests.integration.common.database.conftest import connected
from tests.integration.common.database.conftest import server as server
from tests.integration.common.messaging.harness import DEAD, QUEUE, ConsumingHarness
from tests.support.management import Management
from tests.support.probes import ping
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell.commands import CommandLog, Outcome, Replies
from taskbell.contracts import TaskStatusChanged, UpdateTaskStatus
from taskbell.database import Database, Transaction
from taskbell.errors import DatabaseUnavailable
from taskbell.gate import Gate
from taskbell.messaging.consuming import consumers
from taskbell.messaging.consuming.delivery import Received
from taskbell.messaging.consuming.subscription import Subscription
from taskbell.outbox import Outbox, OutboxMessage, Relay
from taskbell.setup import schema
from taskbell_devstack.stack import Stack

Commands = Sequence[Received[UpdateTaskStatus]]


@pytest_asyncio.fixture(scope="module")
async def url(server: Stack) -> str:
    """The database of our own server, migrated."""
    state = server.state.postgresql
    assert state is not None
    engine = create_async_engine(state.url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as connection:
        await schema.migrate(connection)
        await schema.create_app_tables(connection, "public")
    await engine.dispose()
    return state.url


class RunningService:
    """A service: consumers, command log, outbox, relay, gate."""

    def __init__(self, database: Database, harness: ConsumingHarness) -> None:
        self.database = database
        self.harness = harness
        self.calls = 0
        self.deliveries: dict[str, int] = {}
        self.gate = Gate("postgresql", partial(ping, database), harness.health)
        self.outbox = Outbox("maintenance")
        self.log = CommandLog(database, Replies(harness.publisher))
        self.relay = Relay(
            database, harness.publisher, self.outbox, gate=self.gate, health=harness.health, metrics=harness.metrics
        )
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(part.run(self._stop)) for part in (self.gate, self.relay)]
        subscription = Subscription(
            QUEUE,
            UpdateTaskStatus,
            self.handle,
            batch=10,
            prefetch=40,
            on_invalid=self.log.refuse,
            on_dead=self.log.fail,
        )
        await self.harness.consume(subscription, gates=[self.gate])

    async def close(self) -> None:
        await self.harness.stop()
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def handle(self, commands: Commands) -> None:
        self.calls += 1
        for each in commands:
            if each.envelope.redelivered:
                self.deliveries[each.message_id] = self.deliveries.get(each.message_id, 0) + 1
        await self.log.run(commands, self.apply)

    async def apply(self, transaction: Transaction, commands: Commands) -> Sequence[Outcome]:
        await transaction.execute(
            "INSERT INTO public.projects (name) VALUES (:name)", [{"name": str(each.body.task_id)} for each in commands]
        )
        await self.outbox.add(
            transaction,
            [
                OutboxMessage(
                    TaskStatusChanged(task_id=each.body.task_id, old_status="a", new_status="b", requested_by=None),
                    message_id=f"{each.message_id}.changed",
                )
                for each in commands
            ],
        )
        return [Outcome.done() for _ in commands]

    async def effects(self) -> list[int]:
        try:
            async with self.database.transaction() as transaction:
                rows = await transaction.rows("SELECT name::int AS number FROM public.projects ORDER BY 1")
        except DatabaseUnavailable:
            return []
        return [row.number for row in rows]

    async def unpublished(self) -> int:
        async with self.database.transaction() as transaction:
            return int(await transaction.value("SELECT count(*) FROM taskbell.outbox WHERE published_at IS NULL"))


@pytest_asyncio.fixture
async def service(url: str, module_vhost: Vhost, module_management: Management) -> AsyncIterator[RunningService]:
    for queue in (QUEUE, DEAD):
        await module_management.call("DELETE", f"/queues/{{vhost}}/{queue}/contents")
    database = connected(url)
    async with database.transaction() as transaction:
        await transaction.execute("TRUNCATE public.projects, taskbell.command, taskbell.outbox CASCADE")
    service = RunningService(database, ConsumingHarness(module_vhost.url, module_management))
    yield service
    await service.close()
    await service.harness.close()
    await database.close()


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("hold", [20.0, 0.5], ids=["held", "given back"])
async def test_gone_under_work_it_costs_no_message_no_second_effect_and_no_hot_loop(
    service: RunningService, server: Stack, monkeypatch: pytest.MonkeyPatch, end: str, hold: float
) -> None:
    monkeypatch.setattr(consumers, "HOLD", hold)
    changes = await service.harness.management.listen("taskbell.events", "task.status_changed")
    await service.start()
    await service.harness.publish_many(100)
    await eventually(service.effects)
    await asyncio.to_thread(server.stop if end == "stop" else server.kill, "postgresql")
    await service.harness.publish_many(100, start=101)
    await service.harness.publish(b"{}", "invalid")
    await eventually(lambda: not service.gate.is_open)
    calls = service.calls
    since = service.gate.closed_since
    assert since is not None
    await eventually(lambda: asyncio.get_running_loop().time() - since > 2)
    assert service.calls <= calls + 1
    assert not service.harness.health.ready

    await asyncio.to_thread(server.start, "postgresql")

    async def all_took_effect() -> bool:
        return len(await service.effects()) >= 200

    await eventually(all_took_effect, limit=60)
    assert await service.effects() == list(range(1, 201))
    assert max(service.deliveries.values(), default=0) <= 3
    (dead_letter,) = await service.harness.dead_letters()
    assert dead_letter.properties["message_id"] == "invalid"
    assert await service.harness.ready_in("taskbell.retry.10s") == 0

    async def all_published() -> bool:
        return await service.unpublished() == 0

    await eventually(all_published)
    told = {json.loads(message.body)["task_id"] for message in await service.harness.management.take(changes, 1000)}
    assert told == set(range(1, 201))
    await eventually(lambda: service.harness.health.ready)


async def test_connections_that_are_ended_again_and_again_cost_nothing_but_time(
    service: RunningService, url: str
) -> None:
    admin = await asyncpg.connect(url)
    await service.start()
    for round_ in range(5):
        await service.harness.publish_many(40, start=1 + 40 * round_)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await admin.close()

    async def all_took_effect() -> bool:
        return len(await service.effects()) >= 200

    await eventually(all_took_effect, limit=60)
    assert await service.effects() == list(range(1, 201))
    assert await service.harness.ready_in(DEAD) == 0
    assert await service.harness.ready_in("taskbell.retry.10s") == 0
