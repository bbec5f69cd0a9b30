"""The fences around messages: the broker's confirm, the command's key, the occurrence's key. See test_fences.py."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Row

from taskbell.database import Database
from taskbell.settings import DatabaseAccess, load
from tests.chaos.support import fences
from tests.integration.common.database.conftest import connected
from tests.integration.common.messaging.harness import QUEUE
from tests.integration.common.outbox.test_relay import RelayHarness
from tests.integration.maintenance.use_cases import Maintenance, open_maintenance, status_update
from tests.integration.scheduler.conftest import MINUTELY, SchedulerHarness
from tests.support.proxy import Proxy
from tests.support.vhosts import Vhost
from tests.support.virtual_clock import VirtualClock
from tests.support.waiting import eventually


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = connected(database_url, database_pool_size=4)
    yield database
    await database.close()


async def taken(vhost: Vhost, queue: str) -> dict[str, int]:
    """How often each message_id came to that queue."""
    return dict(Counter(message.properties["message_id"] for message in await vhost.management.take(queue)))


@contextlib.asynccontextmanager
async def relaying(database: Database, url: str, **given: Any) -> AsyncIterator[RelayHarness]:
    """A service's outbox, whose relay runs."""
    relay = RelayHarness(database, url, **given)
    relay.start()
    try:
        yield relay
    finally:
        await relay.close()


# --- publisher confirm

ROWS = range(10)


async def break_while_publishing(database: Database, vhost: Vhost) -> dict[str, int]:
    """The link to the broker goes dumb, rows are published into it, and it breaks with all that was said on it.

    Returns:
        how often each row's message came, once no row waits any more.
    """
    async with Proxy(vhost.url) as proxy, relaying(database, proxy.url, timeout=1) as relay:
        await eventually(lambda: relay.state["state"] == "ready")
        proxy.hold()
        await relay.write(*ROWS)
        await proxy.held.wait()

        async def noticed() -> bool:
            return await relay.waiting() == 0 or relay.state["state"] == "waiting"

        await eventually(noticed)
        proxy.cut()
        proxy.release()
        await relay.all_published()
    return await taken(vhost, QUEUE)


async def test_a_link_that_swallows_what_is_published_loses_nothing(database: Database, vhost: Vhost) -> None:
    assert set(await break_while_publishing(database, vhost)) == {f"m-{number}" for number in ROWS}


async def test_without_the_confirm_it_loses_all_of_it(
    database: Database, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    fences.take_out_confirm(monkeypatch)
    assert await break_while_publishing(database, vhost) == {}


# --- command key


@pytest_asyncio.fixture
async def processes(database_url: str) -> AsyncIterator[Sequence[Maintenance]]:
    """Three processes of the maintenance service."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_maintenance(database_url)) for _ in range(3)]


class Barrier:
    """Holds a process's set of commands between its look at what ran before and its lock on the tasks."""

    def __init__(self, maintenance: Maintenance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        rows = maintenance.statuses._locks.rows

        async def held(*given: Any) -> Sequence[Row[Any]]:
            self.reached.set()
            await self.opened.wait()
            return await rows(*given)

        monkeypatch.setattr(maintenance.statuses._locks, "rows", held)


async def deliver_twice_at_once(
    processes: Sequence[Maintenance], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], str | None]:
    """One command comes to two processes, with another one for the same task between them.

    All three begin before one of them has changed anything; then each goes on to its end, in their order.

    Returns:
        the statuses of which events tell, and the one that the task has in the end.
    """
    first, _, third = processes
    task = await first.task()
    done, reopened = status_update(task, "done", "m-done"), status_update(task, "pending", "m-reopened")
    barriers = [Barrier(maintenance, monkeypatch) for maintenance in processes]
    updates: list[asyncio.Task[None]] = []
    for maintenance, barrier, command in zip(processes, barriers, (done, reopened, done), strict=True):
        updates.append(asyncio.create_task(maintenance.statuses.update([command])))
        await barrier.reached.wait()
    for barrier, update in zip(barriers, updates, strict=True):
        barrier.opened.set()
        await update
    await third.statuses.update([done])
    events = await first.events("task.status_changed")
    return [event["new_status"] for event in events], await first.status(task)


async def test_a_command_delivered_twice_at_once_takes_effect_once_by_its_key(
    processes: Sequence[Maintenance], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await deliver_twice_at_once(processes, monkeypatch) == (["done", "pending"], "pending")
    assert await processes[0].value("SELECT count(*) FROM taskbell.command") == 2


async def test_without_the_key_it_takes_effect_twice(
    processes: Sequence[Maintenance], monkeypatch: pytest.MonkeyPatch
) -> None:
    await fences.take_out_command_key(processes[0].database, monkeypatch)
    assert await deliver_twice_at_once(processes, monkeypatch) == (["done", "pending", "done"], "done")


# --- occurrence key


@pytest_asyncio.fixture
async def harness(database_url: str) -> AsyncIterator[SchedulerHarness]:
    clock = VirtualClock(database_url)
    await clock.install()
    database = Database.connect(load(DatabaseAccess, database_url=database_url), name="test scheduler")
    yield SchedulerHarness(database_url, database, clock)
    await database.close()
    await clock.close()


async def set_back_after_publishing(harness: SchedulerHarness, vhost: Vhost) -> dict[str, int]:
    """An occurrence is published, its message's row pruned, and the position is set back to before it.

    Returns:
        how often each message came to its queue, at any number of schedulers.
    """
    schedulers = [harness.scheduler(MINUTELY) for _ in range(2)]
    async with relaying(harness.database, vhost.url, owner="scheduler") as relay:
        await harness.at("2026-11-20T08:00:30")
        await harness.turn(*schedulers)
        await harness.at("2026-11-20T08:01:30")
        await harness.turn(*schedulers)
        await relay.all_published()
        await harness.sql("DELETE FROM taskbell.outbox WHERE published_at IS NOT NULL")
        await harness.sql("UPDATE taskbell.schedule_state SET position = position - interval '1 minute'")
        await harness.turn(*schedulers)
        await relay.all_published()
    return await taken(vhost, "maintenance.generate_task_report")


async def test_an_occurrence_is_published_once_though_the_position_is_set_back(
    harness: SchedulerHarness, vhost: Vhost
) -> None:
    assert list((await set_back_after_publishing(harness, vhost)).values()) == [1]


async def test_without_the_occurrence_key_it_is_published_twice(
    harness: SchedulerHarness, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fences.take_out_occurrence_key(harness.database, monkeypatch)
    # Each time under an id of its own, by which nobody recognises it.
    assert list((await set_back_after_publishing(harness, vhost)).values()) == [1, 1]
    assert await harness.sql("SELECT key, count(*) FROM taskbell.occurrence GROUP BY key") == [
        ("2026-11-20T08:01:00Z", 2)
    ]
