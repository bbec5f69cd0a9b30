"""Every consumer of both services stops and goes on, again and again, while messages stream in: none is stranded.

The services are whole, in this process, so that a test can reach their consumers and gates; broker, database and mail
server are real.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from taskbell.database import Database
from taskbell.errors import DatabaseUnavailable
from taskbell.gate import Gate
from taskbell.messaging.consuming import consumers as consuming
from taskbell.messaging.consuming.consumers import Consumers
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.messaging.topology import topology
from taskbell.service import Application, Process
from taskbell.settings import load
from taskbell_maintenance.app import build as build_maintenance
from taskbell_maintenance.settings import MaintenanceSettings
from taskbell_notifier.app import build as build_notifier
from taskbell_notifier.settings import NotifierSettings
from tests.chaos.support.figures import Figures
from tests.chaos.support.message_stream import MessageStream
from tests.chaos.support.plan import Plan
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Group:
    """Consumers of one connection, and how they say they are."""

    consumers: Consumers
    process: Process

    @property
    def state(self) -> tuple[str, str]:
        """State and why."""
        told = self.process.health.report()["parts"][self.consumers.name]
        return told["state"], told.get("detail", "")


@dataclass(frozen=True)
class Services:
    """Both services that consume, running."""

    applications: list[tuple[Application, Process]]

    def _parts(self, kind: type[Any]) -> list[tuple[Any, Process]]:
        return [(part, process) for it, process in self.applications for part in it.parts if isinstance(part, kind)]

    @property
    def groups(self) -> list[Group]:
        return [Group(part, process) for part, process in self._parts(Consumers)]

    @property
    def gates(self) -> list[Gate]:
        return [part for part, _ in self._parts(Gate)]

    def count(self, fate: str) -> int:
        """Messages that ended so, but the notifier's own batches."""
        return sum(
            int(sample.value)
            for _, process in self.applications
            for metric in process.metrics.messages.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
            and sample.labels["fate"] == fate
            and sample.labels["queue"] != "notifier.send_batch"
        )


@asynccontextmanager
async def running(build: Callable[[Any, Process], Application], settings: Any) -> AsyncIterator[Any]:
    """A service as its process runs it, until it is drained."""
    process = Process()
    application = build(settings, process)
    stop = asyncio.Event()
    parts = [asyncio.create_task(part.run(stop)) for part in application.parts]
    try:
        await eventually(lambda: process.health.ready)
        yield application, process
    finally:
        stop.set()
        await asyncio.gather(*parts)
        for close in application.close:
            await close()


@asynccontextmanager
async def both(database_url: str, broker_url: str, server: ScriptedSmtp) -> AsyncIterator[Services]:
    where = {"database_url": database_url, "broker_url": broker_url, "database_pool_size": 6}
    smtp = {"mail_server": server.host, "mail_port": server.port, "mail_default_sender": "bell@example.org"}
    async with (
        running(build_notifier, load(NotifierSettings, **where, **smtp)) as notifier,
        running(build_maintenance, load(MaintenanceSettings, **where)) as maintenance,
    ):
        yield Services([notifier, maintenance])


async def pause_often(group: Group, times: int, rng: random.Random, services: Services) -> None:
    """Pauses and resumes, each time in the middle of work, and at once or only when nothing is held any more."""
    for _ in range(times):
        await eventually(lambda: group.state == ("ready", ""), limit=60)
        working = services.count("done") + rng.randrange(20)
        await eventually(lambda: services.count("done") >= working, limit=60)  # noqa: B023 - awaited at once
        if rng.random() < 0.2:
            group.consumers.pause()
            group.consumers.resume()
        group.consumers.pause()
        await eventually(lambda: group.state == ("degraded", "paused"), limit=60)
        if rng.random() < 0.5:
            await eventually(lambda: not group.consumers._ending and group.state == ("degraded", "paused"))
        group.consumers.resume()


async def server_away(group: Group, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that this group needs does not answer, until the group has given back what it held."""

    async def gone() -> None:
        raise DatabaseUnavailable("away for a test")

    await eventually(lambda: group.state == ("ready", "") and gate.is_open, limit=60)
    with monkeypatch.context() as patched:
        patched.setattr(gate, "_probe", gone)
        gate.trip("away for a test")
        # Or it was paused just then: what it holds waits for the server.
        waits = ((gate.closed, f"for {gate.name}"), ("degraded", "paused"))
        await eventually(lambda: group.state in waits, limit=60)


async def test_pausing_and_resuming_every_consumer_under_load_strands_no_message(
    database_url: str, vhost: Vhost, plan: Plan, seed: int, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, absences = plan.pick(quick=(6, 2), full=(100, 10))
    rng = random.Random(seed)
    # A closed gate ends sessions at once instead of after 20 s: what they hold goes back, and comes again.
    monkeypatch.setattr(consuming, "HOLD", 0.0)
    monkeypatch.setattr(consuming, "WATCH", 0.05)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ScriptedSmtp())
        publisher = Publisher(vhost.url, name="load")
        stack.push_async_callback(publisher.close)
        database = Database.connect(load(NotifierSettings, **_settings(database_url, vhost.url)), name="load")
        stack.push_async_callback(database.close)
        async with both(database_url, vhost.url, server) as services:
            names = [group.consumers.name for group in services.groups]
            assert names == ["taskbell notifier", "taskbell notifier sending", "taskbell maintenance"]
            stream = MessageStream(publisher, database, rng, lambda: services.count("done"))
            await stream.prepare()
            stop = asyncio.Event()
            streaming = asyncio.create_task(stream.run(stop))
            async with asyncio.TaskGroup() as tasks:
                for group in services.groups:
                    tasks.create_task(pause_often(group, times, random.Random(rng.random()), services))
                tasks.create_task(absent(services, absences, rng, monkeypatch))
            stop.set()
            await streaming
            await stream.all_took_effect(server)
        for queue in topology().queues:
            # Nothing consumes any more: what had been held would lie there again.
            assert (await vhost.management.depth(queue.name)).ready == 0, f"{queue.name}, SEED={seed}"
    figures.note("pausing", "pauses of each group of consumers", times)
    figures.note("pausing", "messages meanwhile", stream.total)
    figures.note("pausing", "messages given back because a server was away", services.count("returned"))


async def absent(services: Services, times: int, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and then a server is away: that often, and until something was given back because of it."""
    while times > 0 or not services.count("returned"):
        times -= 1
        working = services.count("done") + rng.randrange(100)
        await eventually(lambda: services.count("done") >= working, limit=60)  # noqa: B023 - awaited at once
        group = rng.choice(services.groups)
        await server_away(group, rng.choice(group.consumers._gates), monkeypatch)


def _settings(database_url: str, broker_url: str) -> dict[str, Any]:
    return {"database_url": database_url, "broker_url": broker_url, "mail_default_sender": "bell@example.org"}
