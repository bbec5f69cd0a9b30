"""Taskbell as it is run: its services as processes, on a database and a virtual host for one test."""

import asyncio
import json
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from taskbell_devstack.processes import tail
from taskbell_devstack.services import ServiceProgram
from taskbell_devstack.stack import Stack
from tests.support.databases import fetch
from tests.support.inbox import Inbox
from tests.support.roles import Roles
from tests.support.servers import STACK, Run
from tests.support.vhosts import Vhost

SERVICES = ("scheduler", "notifier", "maintenance")
REPORTS_GO_TO = "operators@example.org"
APP_URL = "https://app.example.org"
OWN_TABLES = (
    "archived_task, archive_batch, command, delivery, mailing, occurrence, outbox, preference, report, "
    "schedule_state, suppression"
)


class Installation:
    """Services on one database and one virtual host, with mail going to one inbox.

    The run has their processes on record and ends them, even if the test fails. With roles, each service logs in as its
    own role; without, all log in as the servers' administrator. They run on the packages of `python`.
    """

    def __init__(
        self,
        database_url: str,
        vhost: Vhost,
        inbox: Inbox,
        roles: Roles | None = None,
        *,
        python: str = sys.executable,
    ) -> None:
        self.database_url = database_url
        self.vhost = vhost
        self.inbox = inbox
        self.management = vhost.management
        self.python = python
        self._roles = roles
        self._suffix = uuid.uuid4().hex[:8]
        self._stack = Stack(Run.current().folder / STACK, servers=())
        self._started: set[str] = set()

    def environment(self) -> dict[str, str]:
        """The settings of every service, unless a test gives others."""
        return {
            "DATABASE_URL": self.database_url,
            "BROKER_URL": self.vhost.url,
            "BROKER_MANAGEMENT_URL": self.vhost.management.url,
            "MAIL_SERVER": self.inbox.host,
            "MAIL_PORT": str(self.inbox.port),
            "MAIL_DEFAULT_SENDER": "Taskbell <taskbell@example.org>",
            "REPORT_RECIPIENTS": REPORTS_GO_TO,
            "APP_URL": APP_URL,
            "SECRET_KEY": "a secret of the tests",
            "TIMEZONE": "UTC",
        }

    async def start(self, *services: str, **settings: str) -> None:
        """Starts services, by default all three; returns when they are ready."""
        names = services or SERVICES
        wanted = [self._service(name, settings) for name in names]
        self._started |= set(names)
        self._stack.directory.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self._stack.run_services, wanted)

    async def stop(self, *services: str) -> None:
        """Stops services as a supervisor does (SIGTERM), by default all that were started."""
        names = services or tuple(self._started)
        await asyncio.to_thread(self._stack.stop, *(self._name(name) for name in names))
        self._started -= set(names)

    def kill(self, service: str) -> None:
        """Ends a service as a power cut does (SIGKILL)."""
        self._stack.kill(self._name(service))
        self._started.discard(service)

    @property
    def running(self) -> frozenset[str]:
        """The services that were started and not stopped."""
        return frozenset(self._started)

    async def ask(self, method: str, url: str) -> int:
        """The status with which that URL answers."""
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.request(method, url)).status_code

    def url(self, service: str) -> str:
        """The URL of the service's HTTP server."""
        return self._stack.state.services[self._name(service)].url

    def log(self, service: str) -> str:
        """The end of the service's log."""
        return tail(self._log(service))

    def has_said(self, service: str, event: str) -> bool:
        """Whether the service has ever logged that event."""
        return f'"event": "{event}"' in self._log(service).read_text(encoding="utf-8", errors="replace")

    def logged(self, service: str) -> list[dict[str, Any]]:
        """All that the service has logged, entry by entry."""
        lines = self._log(service).read_text(encoding="utf-8", errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def _log(self, service: str) -> Path:
        return self._stack.directory / "log" / f"{self._name(service)}.log"

    def check_running(self) -> None:
        """Fails, with the end of its log, if a service has ended by itself."""
        for service in self._started:
            assert self._stack.runs(self._name(service)), f"the {service} has ended:\n{self.log(service)}"

    async def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """The rows that a query finds."""
        return await fetch(self.database_url, query, *values)

    async def value(self, query: str, *values: Any) -> Any:
        """The first column of the only row that a query finds, or None if it finds no row."""
        rows = await self.rows(query, *values)
        assert len(rows) <= 1, rows
        return next(iter(rows[0].values())) if rows else None

    async def insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Inserts rows, all with the same columns."""
        columns = list(rows[0])
        places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
        connection = await asyncpg.connect(self.database_url)
        try:
            statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"
            await connection.executemany(statement, [tuple(row.values()) for row in rows])
        finally:
            await connection.close()

    async def clear(self) -> None:
        """Empties the tables, the dead letters and the inbox; call it while nothing is under way."""
        await self.rows("TRUNCATE users, projects, tasks")
        tables = ", ".join(f"taskbell.{table.strip()}" for table in OWN_TABLES.split(","))
        await self.rows(f"TRUNCATE {tables}")
        for queue in ("notifier.dead", "maintenance.dead"):
            await self.management.take(queue)
        self.inbox.mails.clear()

    def _name(self, service: str) -> str:
        return f"{service}-{self._suffix}"

    def _service(self, name: str, settings: dict[str, str]) -> ServiceProgram:
        environment = self.environment()
        if self._roles:
            environment |= {
                "DATABASE_URL": self._roles.database_url(name),
                "BROKER_URL": self._roles.broker_url(name),
                "APP_SCHEMA": self._roles.app_schema,
            }
        environment |= settings
        public = name == "notifier"
        return ServiceProgram(self._name(name), f"taskbell_{name}", environment, public=public, python=self.python)
