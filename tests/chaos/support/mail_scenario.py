"""An installation with a scripted mail server, people to mail, and what the ledger says of them."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.support.inbox import Inbox
from tests.support.installation import Installation
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

EVENTS = "taskbell.events"
COMMANDS = "taskbell.commands"
DAY = timedelta(days=1)


@dataclass
class MailScenario:
    """Services as processes that send their mail to a scripted server."""

    installation: Installation
    server: ScriptedSmtp
    numbers: dict[str, int] = field(default_factory=dict)
    """The ids of the people, by name."""

    async def start(self, *services: str, **settings: str) -> None:
        """Starts services, by default the notifier; returns when they are ready."""
        await self.installation.start(*(services or ("notifier",)), MAIL_PORT=str(self.server.port), **settings)

    async def people(self, *names: str, now: datetime | None = None, zone: str = "UTC") -> None:
        """Inserts people, each with an overdue task and one that is due soon; their address is NAME@example.org."""
        now = now or await self.installation.value("SELECT pg_catalog.now()")
        for name in names:
            self.numbers[name] = len(self.numbers) + 1
        await self.installation.insert(
            "users",
            [
                {
                    "id": self.numbers[name],
                    "name": name,
                    "email": address_of(name),
                    "timezone": zone,
                    "is_active": True,
                }
                for name in names
            ],
        )
        await self.installation.insert(
            "tasks",
            [
                {"title": f"{name}'s", "status": "pending", "assignee_id": self.numbers[name], "due_date": now + due}
                for name in names
                for due in (-DAY, DAY / 2)
            ],
        )

    async def mail(self, *names: str, key: str = "overdue.due", **body: Any) -> None:
        """Publishes the event that starts a mailing to these people."""
        message = {"user_ids": [self.numbers[name] for name in names]} | body
        assert await self.installation.management.publish(EVENTS, key, message)

    async def row(self, name: str) -> dict[str, Any]:
        """That person's only row in the ledger; empty if there is none yet."""
        rows = await self.installation.rows("SELECT * FROM taskbell.delivery WHERE user_id = $1", self.numbers[name])
        assert len(rows) <= 1, rows
        return rows[0] if rows else {}

    async def states(self, *names: str) -> dict[str, tuple[str, int, str]]:
        """State, attempts and last reason of these people's rows, by name."""
        rows = await self.installation.rows(
            "SELECT u.name, d.state, d.attempts, d.reason FROM taskbell.delivery AS d"
            " JOIN users AS u ON u.id = d.user_id WHERE u.name = ANY($1)",
            list(names),
        )
        assert len({row["name"] for row in rows}) == len(rows), f"somebody has two rows: {rows}"
        return {row["name"]: (row["state"], row["attempts"], row["reason"]) for row in rows}

    async def until_rows_are(self, expected: dict[str, tuple[str, int, str]], *, limit: float = 60.0) -> None:
        """Waits for these states, attempts and reasons, by name; a reason that ends in a colon is a prefix."""

        async def look() -> bool:
            self.installation.check_running()
            found = await self.states(*expected)
            other = {name: (found.get(name), "not", row) for name, row in expected.items() if not _is(found, name, row)}
            assert not other, other
            return True

        await eventually(look, limit=limit)

    async def all_ended(self, names: Sequence[str], *, limit: float = 60.0) -> None:
        """Waits until each of these people has a row that has ended."""

        async def look() -> bool:
            self.installation.check_running()
            ended = await self.installation.value(
                "SELECT count(*) FROM taskbell.delivery WHERE user_id = ANY($1::bigint[]) AND ended_at IS NOT NULL",
                [self.numbers[name] for name in names],
            )
            assert ended == len(names), await self.states(*names)
            return True

        await eventually(look, limit=limit)

    async def postpone(self, *names: str) -> None:
        """Puts the next attempt of their mails off by an hour."""
        await self._due(names, "1 hour")

    async def bring_forward(self, *names: str) -> None:
        """Makes the next attempt of their mails due now."""
        await self._due(names, "0")

    async def _due(self, names: Sequence[str], wait: str) -> None:
        await self.installation.rows(
            "UPDATE taskbell.delivery SET next_attempt_at = now() + $2::text::interval,"
            " due_at = now() + $2::text::interval WHERE user_id = ANY($1::bigint[]) AND ended_at IS NULL",
            [self.numbers[name] for name in names],
            wait,
        )

    def taken(self) -> Counter[str]:
        """How often the server accepted a mail, by the name of its recipient."""
        return Counter({address.partition("@")[0]: count for address, count in self.taken_by_address().items()})

    def taken_by_address(self) -> Counter[str]:
        """How often the server accepted a mail, by address."""
        return Counter(mail.recipients[0] for mail in self.server.accepted)

    async def drop_sessions(self) -> None:
        """Ends every session: the next mail needs a new one."""
        self.server.drop_all()
        await self.server.until(lambda: not self.server.open_connections)


def address_of(name: str) -> str:
    """That person's address."""
    return f"{name}@example.org"


def _is(found: dict[str, tuple[str, int, str]], name: str, row: tuple[str, int, str]) -> bool:
    state, attempts, reason = found.get(name, ("", 0, ""))
    begins = row[2].endswith(":") and (reason or "").startswith(row[2])
    return (state, attempts) == row[:2] and (begins or reason == row[2])


@asynccontextmanager
async def mail_scenario(database_url: str, vhost: Vhost, **server: Any) -> AsyncIterator[MailScenario]:
    """A scenario in which only the mail server runs yet; at the end services are stopped and their logs printed.

    Args:
        server: arguments of `ScriptedSmtp`.
    """
    # An installation needs an inbox; no mail goes there.
    inbox = Inbox()
    await inbox.start()
    async with ScriptedSmtp(**server) as scripted:
        installation = Installation(database_url, vhost, inbox)
        try:
            yield MailScenario(installation, scripted)
        finally:
            for service in sorted(installation.running):
                print(f"--- the {service}'s log\n{installation.log(service)}")  # pytest shows it where the test failed
            scripted.clear()
            await installation.stop()
            await inbox.stop()
