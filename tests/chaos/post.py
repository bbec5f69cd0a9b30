"""A house with a mail server that tests script, people to mail, and what the ledger says of them."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.support.house import House
from tests.support.inbox import Inbox
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

EVENTS = "taskbell.events"
COMMANDS = "taskbell.commands"
DAY = timedelta(days=1)


@dataclass
class Post:
    """Services as processes that hand their mail to a scripted server."""

    house: House
    server: ScriptedSmtp
    numbers: dict[str, int] = field(default_factory=dict)
    """The ids of the people, by name."""

    async def start(self, *services: str, **settings: str) -> None:
        """Starts services, the notifier unless named; returns when they are ready."""
        await self.house.start(*(services or ("notifier",)), MAIL_PORT=str(self.server.port), **settings)

    async def people(self, *names: str, now: datetime | None = None, zone: str = "UTC") -> None:
        """People with a task that is overdue and one that is due soon; NAME@example.org."""
        now = now or await self.house.value("SELECT pg_catalog.now()")
        for name in names:
            self.numbers[name] = len(self.numbers) + 1
        await self.house.insert(
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
        await self.house.insert(
            "tasks",
            [
                {"title": f"{name}'s", "status": "pending", "assignee_id": self.numbers[name], "due_date": now + due}
                for name in names
                for due in (-DAY, DAY / 2)
            ],
        )

    async def mail(self, *names: str, key: str = "overdue.due", **body: Any) -> None:
        """By hand: it is time for that mailing to these people."""
        message = {"user_ids": [self.numbers[name] for name in names]} | body
        assert await self.house.management.publish(EVENTS, key, message)

    async def row(self, name: str) -> dict[str, Any]:
        """That person's only row in the ledger; empty where there is none yet."""
        rows = await self.house.rows("SELECT * FROM taskbell.delivery WHERE user_id = $1", self.numbers[name])
        assert len(rows) <= 1, rows
        return rows[0] if rows else {}

    async def standing(self, *names: str) -> dict[str, tuple[str, int, str]]:
        """State, tries and last reason by name."""
        rows = await self.house.rows(
            "SELECT u.name, d.state, d.attempts, d.reason FROM taskbell.delivery AS d"
            " JOIN users AS u ON u.id = d.user_id WHERE u.name = ANY($1)",
            list(names),
        )
        assert len({row["name"] for row in rows}) == len(rows), f"somebody has two rows: {rows}"
        return {row["name"]: (row["state"], row["attempts"], row["reason"]) for row in rows}

    async def stand(self, expected: dict[str, tuple[str, int, str]], *, limit: float = 60.0) -> None:
        """Waits until these people's rows stand so; of a reason that ends in a colon only that beginning counts."""

        async def look() -> bool:
            self.house.check_running()
            found = await self.standing(*expected)
            other = {name: (found.get(name), "not", row) for name, row in expected.items() if not _is(found, name, row)}
            assert not other, other
            return True

        await eventually(look, limit=limit)

    async def all_ended(self, names: Sequence[str], *, limit: float = 60.0) -> None:
        """Waits until each of these people has a row, and it has ended."""

        async def look() -> bool:
            self.house.check_running()
            ended = await self.house.value(
                "SELECT count(*) FROM taskbell.delivery WHERE user_id = ANY($1::bigint[]) AND ended_at IS NOT NULL",
                [self.numbers[name] for name in names],
            )
            assert ended == len(names), await self.standing(*names)
            return True

        await eventually(look, limit=limit)

    async def put_off(self, *names: str) -> None:
        """The next try of their mails is an hour away."""
        await self._due(names, "1 hour")

    async def bring_forward(self, *names: str) -> None:
        """The wait for the next try of their mails is over."""
        await self._due(names, "0")

    async def _due(self, names: Sequence[str], wait: str) -> None:
        await self.house.rows(
            "UPDATE taskbell.delivery SET next_attempt_at = now() + $2::text::interval,"
            " due_at = now() + $2::text::interval WHERE user_id = ANY($1::bigint[]) AND ended_at IS NULL",
            [self.numbers[name] for name in names],
            wait,
        )

    def taken(self) -> Counter[str]:
        """How often the server took a mail, by the name of its recipient."""
        return Counter({address.partition("@")[0]: count for address, count in self.addressed().items()})

    def addressed(self) -> Counter[str]:
        """How often the server took a mail, by address."""
        return Counter(mail.recipients[0] for mail in self.server.accepted)

    async def hang_up(self) -> None:
        """Every session ends: the next mail needs a new one."""
        self.server.drop_all()
        await self.server.until(lambda: not self.server.open_connections)


def address_of(name: str) -> str:
    """Where that person gets mail."""
    return f"{name}@example.org"


def _is(found: dict[str, tuple[str, int, str]], name: str, row: tuple[str, int, str]) -> bool:
    state, attempts, reason = found.get(name, ("", 0, ""))
    begins = row[2].endswith(":") and (reason or "").startswith(row[2])
    return (state, attempts) == row[:2] and (begins or reason == row[2])


@asynccontextmanager
async def opened(database_url: str, vhost: Vhost, **server: Any) -> AsyncIterator[Post]:
    """A post in which nothing runs yet but the server; services are stopped at the end, and their logs shown.

    Args:
        server: what `ScriptedSmtp` is given.
    """
    inbox = Inbox()  # a house has one; no mail goes there
    await inbox.start()
    async with ScriptedSmtp(**server) as scripted:
        house = House(database_url, vhost, inbox)
        try:
            yield Post(house, scripted)
        finally:
            for service in sorted(house.running):
                print(f"--- the {service}'s log\n{house.log(service)}")  # pytest shows it where the test failed
            scripted.clear()
            await house.stop()
            await inbox.stop()
