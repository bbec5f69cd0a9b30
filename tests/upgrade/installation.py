"""A database, a virtual host and a mail server on which two versions work, one after the other or both at once."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.chaos.support.processes import Processes, ServiceProcess
from tests.support.command import Done
from tests.support.databases import fetch, fresh_database
from tests.support.management import Management
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.servers import ServerUrls
from tests.support.vhosts import fresh_vhost
from tests.support.waiting import eventually
from tests.upgrade.versions import Version

EVENTS, COMMANDS = "taskbell.events", "taskbell.commands"
OPERATORS = "operators@example.org"
UNPUBLISHED = "SELECT message_id FROM taskbell.outbox WHERE published_at IS NULL"


@dataclass(frozen=True)
class SharedInstallation:
    """Where both versions work. Nothing is in it until one of them sets it up."""

    database_url: str
    management: Management
    server: ScriptedSmtp
    processes: Processes
    settings: dict[str, str]

    async def taskbell(self, version: Version, *arguments: str) -> Done:
        """A command of that version, which must succeed."""
        return await version.taskbell(*arguments, **self.settings)

    def add(self, version: Version, service: str) -> ServiceProcess:
        """A process of that version, not started yet."""
        (process,) = self.processes.add(service, PYTHONPATH=version.path)
        return process

    async def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """What a query finds in the database."""
        return await fetch(self.database_url, query, *values)

    async def value(self, query: str, *values: Any) -> Any:
        """The only value that a query finds."""
        (row,) = await self.rows(query, *values)
        (value,) = row.values()
        return value

    async def publish(self, exchange: str, key: str, body: Any, message_id: str, **properties: Any) -> None:
        """Publishes a message; a queue must get it."""
        known = {"message_id": message_id, "delivery_mode": 2, **properties}
        assert await self.management.publish(exchange, key, body, properties=known), f"no queue for {key}"

    async def ready(self, queue: str) -> int:
        """Messages that wait there for a consumer."""
        return (await self.management.depth(queue)).ready

    async def deliveries(self) -> dict[int, dict[str, Any]]:
        """The ledger's rows by id."""
        return {row["id"]: row for row in await self.rows("SELECT * FROM taskbell.delivery ORDER BY id")}

    async def commands(self) -> dict[str, dict[str, Any]]:
        """The commands that have ended, by message_id; bodies and results as text."""
        return {row["message_id"]: row for row in await self.rows("SELECT * FROM taskbell.command")}

    async def unpublished(self) -> set[str]:
        """The message_ids that wait in the outbox."""
        return {row["message_id"] for row in await self.rows(UNPUBLISHED)}

    async def mailing(self, message_id: str) -> dict[str, int]:
        """How often each thing became of a mailing's mails, once it is completed."""
        query = "SELECT counts FROM taskbell.mailing WHERE message_id = $1 AND completed_at IS NOT NULL"

        async def completed() -> list[dict[str, Any]]:
            self.processes.check_running(process for process in self.processes.all if process.ready)
            return await self.rows(query, message_id)

        (row,) = await eventually(completed, what=f"the completion of {message_id}")
        return dict(json.loads(row["counts"]))

    def taken(self) -> Counter[str]:
        """How often the mail server took each Message-ID."""
        return Counter(mail.message_id for mail in self.server.accepted)

    def last_words(self) -> str:
        """The end of what each process said."""
        return "\n".join(f"--- {process.name}\n{process.said()}" for process in self.processes.all)


@asynccontextmanager
async def fresh_installation(servers: ServerUrls, **settings: str) -> AsyncIterator[SharedInstallation]:
    """An empty installation. If the block fails, what the processes said last is printed."""
    async with (
        fresh_database(servers.database_url) as database_url,
        fresh_vhost(servers, topology=False) as vhost,
        ScriptedSmtp() as server,
    ):
        common = {
            "DATABASE_URL": database_url,
            "BROKER_URL": vhost.url,
            "MAIL_SERVER": server.host,
            "MAIL_PORT": str(server.port),
            "MAIL_DEFAULT_SENDER": "Taskbell <taskbell@example.org>",
            "MAIL_LEASE_SECONDS": "3",
            "REPORT_RECIPIENTS": OPERATORS,
            "APP_URL": "https://app.example.org",
            "SECRET_KEY": "a secret of the tests",
            "TIMEZONE": "UTC",
        } | settings
        async with Processes(common) as processes:
            installation = SharedInstallation(database_url, vhost.management, server, processes, common)
            try:
                yield installation
            except BaseException:
                print(installation.last_words())
                raise
            finally:
                server.clear()
