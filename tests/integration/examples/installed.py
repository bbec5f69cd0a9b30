"""Taskbell with packages from examples/ installed beside it, each service as a process under its own role."""

import json
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from tests.support.command import Done, taskbell
from tests.support.databases import fresh_database
from tests.support.inbox import Inbox, ReceivedMail
from tests.support.installation import APP_URL, Installation
from tests.support.roles import Roles, sole_use_of_logins
from tests.support.servers import ServerUrls
from tests.support.vhosts import fresh_vhost
from tests.support.waiting import eventually

EXAMPLES = Path(__file__).parents[3] / "examples"
HOUR = timedelta(hours=1)
MEMBERS = "CREATE TABLE public.team_members (user_id bigint NOT NULL, team text NOT NULL, PRIMARY KEY (user_id, team))"
"""The web app's own. Its schema is named: without it, the table would be in schema taskbell, the administrator's."""


@dataclass
class Examples:
    """An installation, with people and tasks of the web app."""

    installation: Installation
    roles: Roles
    path: str
    """PYTHONPATH of services and commands."""
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def set_up(self, *arguments: str) -> str:
        """Runs `taskbell setup` with what is installed now."""
        return await self.roles.set_up(*arguments, python=self.installation.python, PYTHONPATH=self.path)

    async def start(self, *services: str, **settings: str) -> None:
        """Starts services with what is installed now."""
        await self.installation.start(*services, PYTHONPATH=self.path, **settings)

    async def taskbell(self, *arguments: str) -> Done:
        """A command of the operator's."""
        urls = {"DATABASE_URL": self.roles.database_url("operator"), "BROKER_URL": self.roles.broker_url("operator")}
        python = self.installation.python
        return await taskbell(*arguments, python=python, PYTHONPATH=self.path, APP_URL=APP_URL, **urls)

    async def said(self, *arguments: str) -> str:
        """What a command of the operator's prints; it must succeed."""
        done = await self.taskbell(*arguments)
        assert done.status == 0, done.err
        return done.out

    async def user(self, number: int, **columns: Any) -> None:
        """A user at `N@example.org`; by default active, in UTC."""
        row = {"id": number, "name": f"Person {number}", "email": f"{number}@example.org", "timezone": "UTC"}
        await self.installation.insert("users", [row | {"is_active": True} | columns])

    async def member(self, number: int, team: str = "support", **columns: Any) -> None:
        """A user in a team."""
        await self.user(number, **columns)
        await self.installation.insert("public.team_members", [{"user_id": number, "team": team}])

    async def task(self, number: int, title: str, **columns: Any) -> None:
        """A pending task that nobody is assigned to, due in some hours."""
        row = {"id": number, "title": title, "status": "pending", "priority": "high", "assignee_id": None}
        due = {"due_date": self.now + 5 * HOUR}
        await self.installation.insert("tasks", [row | due | columns])

    async def publish(self, key: str, body: Mapping[str, Any], message_id: str) -> None:
        """Publishes an event; a queue must get it."""
        properties = {"message_id": message_id}
        assert await self.installation.management.publish("taskbell.events", key, dict(body), properties=properties)

    async def completed(self, message_id: str, *, limit: float = 30.0) -> dict[str, int]:
        """What became of a mailing, once it is over: how many of its mails ended how, without those that are none."""

        async def counts() -> Any:
            self.installation.check_running()
            query = "SELECT counts FROM taskbell.mailing WHERE message_id = $1 AND completed_at IS NOT NULL"
            return await self.installation.value(query, message_id)

        found = json.loads(await eventually(counts, limit=limit, what=f"the completion of {message_id}"))
        return {state: count for state, count in found.items() if count}

    async def mailed(self, key: str, body: Mapping[str, Any], message_id: str) -> dict[str, int]:
        """Publishes an event, and waits for what becomes of it."""
        await self.publish(key, body, message_id)
        return await self.completed(message_id)

    async def reasons(self, kind: str) -> dict[str, tuple[str, str | None]]:
        """State and reason of each mail of that kind, by recipient."""
        query = "SELECT recipient, state, reason FROM taskbell.delivery WHERE kind = $1"
        rows = await self.installation.rows(query, kind)
        return {row["recipient"]: (row["state"], row["reason"]) for row in rows}

    async def retry_now(self) -> None:
        """What waits for its next try is due."""
        await self.installation.rows("""
            UPDATE taskbell.delivery SET next_attempt_at = now(), due_at = now() WHERE state = 'retry'
        """)

    async def metric(self, name: str, **labels: str) -> float:
        """A counter of the notifier's; 0 if it has not counted yet."""
        async with httpx.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"{self.installation.url('notifier')}/metrics")).text
        wanted = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
        found = re.search(rf"^{name}{{{re.escape(wanted)}}} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def readiness(self) -> Any:
        """What the notifier's /readyz says."""
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(f"{self.installation.url('notifier')}/readyz")).json()

    async def clear(self) -> None:
        """Empties tables and inbox; call it while nothing is under way."""
        self.installation.check_running()
        await self.installation.clear()
        await self.installation.rows("TRUNCATE public.team_members")
        self.installation.inbox.refusals.clear()

    def link(self, mail: ReceivedMail) -> str:
        """The unsubscribe link of a mail."""
        return str(mail.message["List-Unsubscribe"]).strip("<>")

    def errors(self, service: str) -> list[str]:
        """The events that a service logged as errors."""
        return [it["event"] for it in self.installation.logged(service) if it["level"] == "error"]


@asynccontextmanager
async def examples_installed(
    servers: ServerUrls, path: str = "", *, python: str = sys.executable
) -> AsyncIterator[Examples]:
    """Taskbell with the packages that are installed there; nothing is granted to them, and no service runs.

    Args:
        path: PYTHONPATH of services and commands.
        python: their interpreter.
    """
    inbox = Inbox()
    await inbox.start()
    async with (
        sole_use_of_logins(servers),
        fresh_database(servers.database_url) as admin_url,
        fresh_vhost(servers, topology=False) as vhost,
    ):
        roles = Roles(admin_url, vhost, "public")
        installation = Installation(admin_url, vhost, inbox, roles, python=python)
        examples = Examples(installation, roles, path)
        try:
            await installation.rows(MEMBERS)
            yield examples
        finally:
            await installation.stop()
            await inbox.stop()
