"""The benchmarks' own PostgreSQL and RabbitMQ. Their data, with the templates, are kept from run to run."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import httpx

from benchmarks.cluster import Cluster
from benchmarks.dataset import Databases
from taskbell.setup.broker import declare
from taskbell_devstack.stack import Stack

FOLDER = Path(__file__).resolve().parents[1] / ".dev" / "benchmarks"
MUST_BE_ON = ("fsync", "synchronous_commit", "full_page_writes")
PACKAGES = ("taskbell", "asyncpg", "aiormq", "aiosmtplib", "uvloop", "sqlalchemy")


class Servers:
    """PostgreSQL and RabbitMQ, as the development stack runs them.

    Args:
        nodes: the number of RabbitMQ nodes; if it is more than one, they form a cluster made for this run.
    """

    def __init__(self, folder: Path = FOLDER, *, nodes: int = 1) -> None:
        self.folder = folder
        self._cluster = Cluster(folder / "cluster", nodes)
        self._clustered = nodes > 1
        kinds = ("postgresql",) if self._clustered else ("postgresql", "rabbitmq")
        self._stack = Stack(folder, servers=kinds, say=lambda words: print(words, flush=True))

    async def up(self) -> None:
        """Starts the servers.

        Raises:
            RuntimeError: PostgreSQL runs without a setting that makes commits durable.
        """
        state = self._stack.up()
        if self._clustered and self._stack.runs("rabbitmq"):  # the single node of an earlier run
            self._stack.stop("rabbitmq")
        broker = self._cluster.up() if self._clustered else state.rabbitmq
        assert state.postgresql is not None
        assert broker is not None
        self.database_url = state.postgresql.url
        self.broker_url = broker.url
        self.management_url = broker.management_url
        self.pids = {name: it.pid for name, it in state.processes.items() if name in ("postgresql", "rabbitmq")}
        if self._clustered:
            self.pids |= self._cluster.pids()
        self.databases = Databases(self.database_url)
        settings = await self.settings()
        if off := [name for name in MUST_BE_ON if settings[name] != "on"]:
            msg = f"PostgreSQL runs with {', '.join(off)} off: its figures would mean nothing"
            raise RuntimeError(msg)

    def down(self) -> None:
        """Stops the servers. Their data are kept, except those of a cluster."""
        if self._clustered:
            self._cluster.down()
        self._stack.down()

    def remove(self) -> None:
        """Stops the servers and removes all data, including those of a cluster that an interrupted run has left."""
        self._cluster.down()
        self._stack.down(at_once=True, remove_data=True)

    async def settings(self) -> dict[str, str]:
        """PostgreSQL's settings, by name."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return {row[0]: row[1] for row in await connection.fetch("SELECT name, setting FROM pg_settings")}
        finally:
            await connection.close()

    @asynccontextmanager
    async def vhost(self) -> AsyncIterator[tuple[str, str]]:
        """Makes a virtual host with our topology; yields its URL and its name. It is deleted at the end."""
        name = f"bench-{uuid.uuid4().hex[:8]}"
        user = quote(urlsplit(self.broker_url).username or "", safe="")
        async with httpx.AsyncClient(base_url=f"{self.management_url}/api", timeout=60, trust_env=False) as api:
            (await api.put(f"/vhosts/{name}", json={})).raise_for_status()
            rights = {"configure": ".*", "write": ".*", "read": ".*"}
            (await api.put(f"/permissions/{name}/{user}", json=rights)).raise_for_status()
            url = urlsplit(self.broker_url)._replace(path=f"/{name}").geturl()
            try:
                await declare(url)
                yield url, name
            finally:
                (await api.delete(f"/vhosts/{name}")).raise_for_status()

    async def ready(self, vhost: str, queue: str) -> int:
        """The number of undelivered messages in a queue. The management API lags by some seconds."""
        async with httpx.AsyncClient(base_url=f"{self.management_url}/api", timeout=60, trust_env=False) as api:
            answer = (await api.get(f"/queues/{vhost}/{queue}")).json()
            return int(answer.get("messages_ready", 0))

    async def machine(self) -> dict[str, Any]:
        """The machine and the versions that the figures were measured on."""
        async with httpx.AsyncClient(base_url=f"{self.management_url}/api", timeout=60, trust_env=False) as api:
            overview = (await api.get("/overview")).json()
        settings = await self.settings()
        names = ("shared_buffers", "max_wal_size", *MUST_BE_ON)
        return {
            "cores": os.cpu_count(),
            "processor": processor(),
            "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
            "system": f"{os.uname().sysname} {os.uname().release.partition('-')[0]}",
            "load": os.getloadavg()[0],
            "python": sys.version.split()[0],
            "postgresql": settings["server_version"],
            "rabbitmq": overview["rabbitmq_version"],
            "erlang": overview["erlang_version"],
            "commit": commit(),
            "settings": {name: settings[name] for name in names},
            "packages": {name: version(name) for name in PACKAGES},
        }


def processor() -> str:
    """The processor's name."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else os.uname().machine


def commit() -> str:
    """The commit that is checked out, with a mark if files were changed since."""
    argv = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(argv, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
