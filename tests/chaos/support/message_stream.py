"""A stream of messages for every queue of both services, and a check that each took effect once."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from taskbell.contracts import CATALOGUE
from taskbell.database import Database
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.waiting import eventually

PEOPLE = 20
REPORT_DAY = "2026-11-22"
DUE = ("reminder.due", "overdue.due", "weekly.due")
REPORT = "maintenance.generate_task_report"
STATUS, TEST_MAIL = "maintenance.update_task_status", "notifier.send_test_mail"
WEIGHTS = {
    STATUS: 60,
    TEST_MAIL: 15,
    **dict.fromkeys(DUE, 5),
    "report.generated": 4,
    "maintenance.cleanup_completed_tasks": 4,
    REPORT: 2,
}
"""How often each is published; the notifier itself publishes notifier.send_batch for what it plans."""
SET = 20
AHEAD = 400
"""Messages that may wait at most: enough that no queue runs empty, few enough that all end soon."""


@dataclass
class MessageStream:
    """Publishes messages, each with an id of its own, as fast as they are handled.

    Args:
        handled: returns how many have been handled by now.
    """

    publisher: Publisher
    database: Database
    rng: random.Random
    handled: Callable[[], int]
    published: Counter[str] = field(default_factory=Counter)
    """How many were published, by routing key."""

    @property
    def total(self) -> int:
        """How many messages were published so far."""
        return self.published.total()

    async def prepare(self) -> None:
        """Inserts people with an overdue task and one that is due soon, and tasks for status updates."""
        async with self.database.transaction() as tx:
            await tx.execute(
                "INSERT INTO public.users (id, name, email, timezone, is_active)"
                " SELECT i, 'P', 'person' || i || '@example.org', 'UTC', true FROM generate_series(1, :people) AS i",
                {"people": PEOPLE},
            )
            await tx.execute(
                "INSERT INTO public.tasks (title, status, assignee_id, due_date)"
                " SELECT 'T', 'pending', i, now() + days * interval '12 hours'"
                " FROM generate_series(1, :people) AS i, (VALUES (-1), (1)) AS d (days)",
                {"people": PEOPLE},
            )
            await tx.execute(
                "INSERT INTO public.tasks (id, title, status)"
                " SELECT 1000000 + i, 'S', 'pending' FROM generate_series(0, 20000) AS i"
            )

    async def run(self, stop: asyncio.Event) -> None:
        """Publishes until `stop` is set."""
        while not stop.is_set():
            messages = [self._message() for _ in range(SET)]
            # What was not confirmed is published again: a machine that stood still may have lost its connection.
            while messages:
                errors = await self.publisher.publish_all(messages)
                messages = [message for message, error in zip(messages, errors, strict=True) if error is not None]
            await eventually(lambda: stop.is_set() or self.total - self.handled() < AHEAD, limit=60)

    def _message(self) -> Outgoing:
        (key,) = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
        number = self.published[key]
        self.published[key] += 1
        message = CATALOGUE[key]
        body = json.dumps(self._body(key, number)).encode()
        return Outgoing(message.exchange, key, body, f"{key}-{number}", mandatory=True)

    def _body(self, key: str, number: int) -> dict[str, Any]:
        if key == STATUS:
            return {"task_id": 1_000_000 + number, "new_status": "done"}
        if key == TEST_MAIL:
            return {"to": f"tester{number}@example.org"}
        if key in DUE:
            return {"user_ids": [number % PEOPLE + 1]}
        if key == "report.generated":
            return {"date": REPORT_DAY, "as_of": datetime.now(UTC).isoformat()}
        return {"dry_run": True} if "cleanup" in key else {}

    async def all_took_effect(self, server: ScriptedSmtp) -> None:
        """Waits until every message has had its effect; fails if one had it twice."""
        commands = Counter({key: count for key, count in self.published.items() if CATALOGUE[key].has_outcome})
        # Of every event, of every test mail, and of every report that was made.
        mailings = self.total - commands.total() + commands[TEST_MAIL] + commands[REPORT]

        async def look() -> bool:
            found = Counter({row.key: row.rows for row in await self._rows(_COMMANDS)})
            assert found == commands, (found, commands)
            (row,) = await self._rows(_LEDGER)
            assert (row.completed, row.open, row.unpublished) == (mailings, 0, 0), (row, mailings)
            return True

        await eventually(look, limit=120)
        assert await self._rows("SELECT * FROM taskbell.command WHERE state <> 'done' OR attempts <> 1") == []
        changed = {row.task: row.rows for row in await self._rows(_CHANGED)}
        assert changed == {1_000_000 + number: 1 for number in range(commands[STATUS])}
        (done,) = await self._rows("SELECT count(*) AS rows FROM public.tasks WHERE status = 'done'")
        assert done.rows == commands[STATUS]
        assert await self._rows("SELECT * FROM taskbell.delivery WHERE state <> 'sent' OR attempts <> 1") == []
        (rows,) = await self._rows("SELECT count(*) AS rows FROM taskbell.delivery")
        taken = Counter((mail.recipients[0], mail.message_id) for mail in server.accepted)
        assert taken.total() == len(taken) == rows.rows, "a mail went twice, or never"
        testers = Counter(address for address, _ in taken if address.startswith("tester"))
        assert testers == Counter(f"tester{number}@example.org" for number in range(commands[TEST_MAIL]))

    async def _rows(self, statement: str) -> list[Any]:
        async with self.database.transaction() as tx:
            return list(await tx.rows(statement))


_COMMANDS = "SELECT routing_key AS key, count(*) AS rows FROM taskbell.command GROUP BY 1"
_LEDGER = """
    SELECT (SELECT count(*) FROM taskbell.mailing WHERE completed_at IS NOT NULL) AS completed,
        (SELECT count(*) FROM taskbell.delivery WHERE ended_at IS NULL) AS open,
        (SELECT count(*) FROM taskbell.outbox WHERE published_at IS NULL) AS unpublished
"""
_CHANGED = """
    SELECT (body ->> 'task_id')::bigint AS task, count(*) AS rows FROM taskbell.outbox
    WHERE routing_key = 'task.status_changed' GROUP BY 1
"""
