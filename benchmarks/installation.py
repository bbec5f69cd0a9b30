"""Runs Taskbell's services for one case, on a copy of a data set and in the case's own virtual host."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.dataset import DataSet
from benchmarks.measure import Cpu, TransactionWatch, memory_mb
from benchmarks.servers import Servers
from benchmarks.sinks import ROOT, Sink, running_sink
from taskbell.client import AsyncClient
from taskbell_devstack.processes import tail
from taskbell_devstack.services import ServiceProgram
from taskbell_devstack.stack import Stack

SETTLES = 1.5  # seconds that services need to become idle after they are ready
LOOK = 0.1  # seconds between checks; the times that are measured come from the servers, so this does not blur them
TOGETHER = "together"
"""The name of one process that runs all three services."""


@dataclass
class Measured:
    """What the work in a measured block cost."""

    cpu: dict[str, float] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)
    longest: float = 0.0
    others: float = 0.0
    """The share of the machine that unrelated processes took."""

    def fields(self) -> dict[str, Any]:
        """The figures as fields of a result."""
        return {
            "cpu": self.cpu,
            "peak_mb": self.peak_mb,
            "longest_transaction": self.longest,
            "others": self.others,
        }


class Installation:
    """Services, their servers and the mail server of one case."""

    def __init__(
        self, servers: Servers, database_url: str, broker: tuple[str, str], sink: Sink, settings: Mapping[str, str]
    ) -> None:
        self.servers = servers
        self.database_url = database_url
        self.broker_url, self.vhost = broker
        self.sink = sink
        self._settings = settings
        self._stack = Stack(servers.folder / "services", servers=())
        self.running: list[str] = []

    async def start(self, *names: str, **settings: str) -> None:
        """Starts services. Several of one kind get numbers: notifier-1, notifier-2."""
        environment = {
            "DATABASE_URL": self.database_url,
            "BROKER_URL": self.broker_url,
            "BROKER_MANAGEMENT_URL": self.servers.management_url,
            "MAIL_SERVER": "127.0.0.1",
            "MAIL_PORT": str(self.sink.port),
            "MAIL_DEFAULT_SENDER": "Taskbell <taskbell@example.test>",
            "APP_URL": "https://app.example.test",
            "SECRET_KEY": "a secret of the benchmarks",
            "LOG_FORMAT": "json",
            "PYTHONPATH": str(ROOT),
            **self._settings,
            **settings,
        }
        services = [
            ServiceProgram(name, _module(name), environment, public=not name.startswith(("scheduler", "maintenance")))
            for name in names
        ]
        self._stack.directory.mkdir(parents=True, exist_ok=True)
        self.running += names
        await asyncio.to_thread(self._stack.run_services, services)
        await asyncio.sleep(SETTLES)

    async def stop(self, *names: str) -> None:
        """Stops services cleanly; without names, all of them."""
        ended = list(names or self.running)
        await asyncio.to_thread(self._stack.stop, *ended)
        self.running = [name for name in self.running if name not in ended]

    def pause(self, name: str) -> None:
        """Pauses that process (SIGSTOP)."""
        self._stack.pause(name)

    def resume(self, name: str) -> None:
        """Continues that process (SIGCONT)."""
        self._stack.resume(name)

    def pid(self, name: str) -> int:
        """The number of that process."""
        return self._stack.state.processes[name].pid

    def log(self, name: str) -> Path:
        """The log file of that process."""
        return self._stack.directory / "log" / f"{name}.log"

    @contextlib.asynccontextmanager
    async def measured(self) -> AsyncIterator[Measured]:
        """Measures what the block costs. The figures are complete when the block has ended."""
        found = Measured()
        ours = {name: self.pid(name) for name in self.running}
        async with TransactionWatch.over(self.database_url) as watch:
            cpu = Cpu({**ours, **self.servers.pids, self.sink.name: self.sink.pid})
            began = time.monotonic()
            yield found
            found.cpu = cpu.spent()
            found.others = found.cpu.pop("others") / (time.monotonic() - began) / (os.cpu_count() or 1)
        found.longest = watch.longest
        found.peak_mb = {name: memory_mb(pid) for name, pid in ours.items()}

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection to the database for the benchmark itself."""
        connection = await asyncpg.connect(self.database_url)
        try:
            yield connection
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncClient]:
        """The client that a web app would use."""
        async with AsyncClient(self.broker_url) as client:
            yield client

    async def until(self, what: str, holds: Callable[[], Any], *, limit: float = 900.0) -> None:
        """Waits until `await holds()` is true.

        Raises:
            TimeoutError: it did not become true within `limit` seconds, or a service ended.
        """
        deadline = time.monotonic() + limit
        while not await holds():
            dead = [name for name in self.running if not self._stack.runs(name)]
            if dead or time.monotonic() > deadline:
                said = "\n".join(f"{name}:\n{tail(self.log(name))}" for name in dead or self.running)
                msg = f"waited for {what}, which did not happen\n{said}"
                raise TimeoutError(msg)
            await asyncio.sleep(LOOK)


def _module(name: str) -> str:
    return "benchmarks.together" if name == TOGETHER else f"taskbell_{name.partition('-')[0]}"


@dataclass(frozen=True)
class Bench:
    """What every case gets."""

    servers: Servers
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of the services that replace their defaults."""
    own_sink: bool = False

    @contextlib.asynccontextmanager
    async def installation(self, data: DataSet, *, delay: float = 0.0, **settings: str) -> AsyncIterator[Installation]:
        """An installation on fresh data. Stops the services that still run at the end."""
        database_url = await self.servers.databases.copy(data)
        async with self.servers.vhost() as broker, running_sink(delay=delay, own=self.own_sink) as sink:
            installation = Installation(self.servers, database_url, broker, sink, {**settings, **self.settings})
            try:
                yield installation
            finally:
                await installation.stop()
        await self.servers.databases.drop_copy()
