"""A server that is away, or short of memory, for minutes while work is under way: everything waits, and nothing is lost."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from tests.chaos import checker
from tests.chaos.crew import Crew
from tests.chaos.figures import Figures
from tests.chaos.ground import Ground
from tests.chaos.plan import Plan
from tests.chaos.sink import Sink, logged_sink
from tests.chaos.town import Town, fresh_town
from tests.support.waiting import eventually

from taskbell.contracts import UpdateTaskStatus, message_of
from taskbell.errors import BrokerUnavailable
from taskbell.messaging.publisher import PUBLISH_TIMEOUT, Outgoing, Publisher
from taskbell.messaging.topology import QUEUES

PEOPLE = 300
STATUSES = 700
"""With the mails: 1,000 pieces of work."""
LIMIT = 300.0  # seconds for everything to be caught up with


class Scene(NamedTuple):
    """One of each service, a mailing under way, and who listens to what becomes of it."""

    town: Town
    sink: Sink
    crew: Crew
    tasks: range
    events: str
    """The queue of task.status_changed."""


@asynccontextmanager
async def scene(ground: Ground, folder: Path) -> AsyncIterator[Scene]:
    """The mail server takes its time, so that the mailing is not over before the outage."""
    async with fresh_town(ground) as town, logged_sink(folder) as sink:
        sink.server.rule("DOT", delay=0.2)
        await town.people(PEOPLE)
        tasks = await town.tasks(STATUSES)
        events = await ground.management.listen("taskbell.events", "task.status_changed")
        crew = Crew(
            {
                "DATABASE_URL": town.database_url,
                "BROKER_URL": ground.broker_url,
                "MAIL_SERVER": sink.server.host,
                "MAIL_PORT": str(sink.server.port),
                "MAIL_DEFAULT_SENDER": "Taskbell <taskbell@example.org>",
                "MAIL_LEASE_SECONDS": "10",
                "APP_URL": "https://app.example.org",
                "SECRET_KEY": "a secret of the tests",
            }
        )
        for service in ("scheduler", "notifier", "maintenance"):
            crew.add(service)
        await crew.start()
        await town.execute("SELECT taskbell.enqueue('overdue.due', '{}'::jsonb, 'the mailing')")
        await eventually(lambda: sum(sink.taken().values()) >= PEOPLE // 10, what="the first mails")
        yield Scene(town, sink, crew, tasks, events)
        await crew.stop()


async def test_the_broker_is_killed_for_a_minute(ground: Ground, plan: Plan, figures: Figures, tmp_path: Path) -> None:
    away = plan.pick(quick=3.0, full=60.0)
    async with scene(ground, tmp_path) as it:
        pids = [member.pid for member in it.crew.members]
        await asyncio.to_thread(ground.kill, "rabbitmq")
        killed = time.monotonic()
        await it.town.start_work_on(it.tasks)
        assert await it.town.unpublished() == STATUSES
        await asyncio.sleep(max(0.0, killed + away - time.monotonic()))
        back = await ground.start("rabbitmq")
        await eventually(lambda: everything_is_consumed(ground), limit=LIMIT)
        row = "broker killed"
        figures.note(row, "seconds away", back - killed, at_least=away)
        figures.note(row, "seconds from its accepting connections to the last consumer", since(back), at_most=10)
        await eventually(lambda: all_is_done(it), limit=LIMIT)
        figures.note(row, "seconds until all was caught up with", since(back))
        assert [member.pid for member in it.crew.members] == pids
        await check(it, ground)


async def test_postgresql_is_stopped_for_two_minutes_with_a_thousand_messages_queued(
    ground: Ground, plan: Plan, figures: Figures, tmp_path: Path
) -> None:
    away = plan.pick(quick=5.0, full=120.0)
    async with scene(ground, tmp_path) as it, Redeliveries(ground) as redeliveries:
        pids = [member.pid for member in it.crew.members]
        # The last of the first hundred are under way when it goes.
        await publish_commands(ground, it.tasks[:100])
        await asyncio.to_thread(ground.stop, "postgresql")
        stopped = time.monotonic()
        await publish_commands(ground, it.tasks[100:])
        await publish_mail_events(ground, 300)
        used = cpu_seconds(pids)
        for member in it.crew.members:
            await eventually(lambda: is_red(member), what=f"{member.name} red")  # noqa: B023
        await asyncio.sleep(max(0.0, stopped + away - time.monotonic()))
        it.crew.check_running()
        busy = (cpu_seconds(pids) - used) / (time.monotonic() - stopped)
        back = await ground.start("postgresql")
        for member in it.crew.members:
            await eventually(lambda: is_green(member), limit=LIMIT, what=f"{member.name} green")  # noqa: B023
        row = "PostgreSQL stopped"
        figures.note(row, "seconds away", back - stopped, at_least=away)
        figures.note(row, "share of a core used by all services meanwhile", busy, at_most=0.1)
        figures.note(row, "seconds until all were ready again", since(back))
        await eventually(lambda: all_is_done(it), limit=LIMIT)
        figures.note(row, "seconds until all was caught up with", since(back))
        assert [member.pid for member in it.crew.members] == pids, "restarted"
        await check(it, ground)
        counts = await redeliveries.taken()
        figures.note(row, "messages delivered", len(counts), at_least=1_000)
        figures.note(row, "redeliveries of a message, at most", max(counts.values()) - 1, at_most=3)
        assert max(counts.values()) <= 1 + 3, counts.most_common(5)


async def test_the_broker_is_short_of_memory(ground: Ground, plan: Plan, figures: Figures, tmp_path: Path) -> None:
    lasts = plan.pick(quick=5.0, full=120.0)
    async with scene(ground, tmp_path) as it:
        (maintenance,) = it.crew.of("maintenance")
        # It finds its queue full when it is looked at again, during the alarm.
        maintenance.pause()
        await publish_commands(ground, it.tasks)
        await ground.run_short_of_memory(True)
        began = time.monotonic()
        try:
            mails = sum(it.sink.taken().values())
            maintenance.resume()
            longest = 0.0
            while since(began) < lasts:
                longest = max(longest, await time_to_fail(ground))
            done = "SELECT count(*) FROM taskbell.command WHERE state = 'done'"
            await eventually(
                lambda: counted(it.town, done, STATUSES), limit=LIMIT, what="commands done under the alarm"
            )
            more = sum(it.sink.taken().values()) - mails
            waiting = await it.town.unpublished()
        finally:
            await ground.run_short_of_memory(False)
        over = time.monotonic()
        assert more > 0, "no mail was sent under the alarm"
        assert waiting >= STATUSES, "the events' rows wait for the broker"
        await eventually(lambda: all_is_done(it), limit=LIMIT)
        row = "memory alarm"
        figures.note(row, "seconds it lasted", over - began, at_least=lasts)
        figures.note(row, "longest publish until it failed, seconds", longest, at_most=PUBLISH_TIMEOUT + 0.5)
        figures.note(row, "commands and mails handled meanwhile", STATUSES + more)
        figures.note(row, "seconds until all was caught up with", since(over))
        await check(it, ground)


class Redeliveries:
    """How often each message was delivered to a queue of ours, as the broker itself tells (its firehose)."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._queues: list[str] = []

    async def __aenter__(self) -> "Redeliveries":
        for service in ("notifier", "maintenance"):
            self._queues.append(await self._ground.management.listen("amq.rabbitmq.trace", f"deliver.{service}.#"))
        await self._ground.trace(True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._ground.trace(False)

    async def taken(self) -> Counter[str]:
        """Deliveries so far by message_id."""
        counts: Counter[str] = Counter()
        for queue in self._queues:
            while messages := await self._ground.management.take(queue):
                counts.update(message.headers["properties"]["message_id"] for message in messages)
        return counts


async def publish_commands(ground: Ground, tasks: Sequence[int]) -> None:
    """One to start work on each of the tasks, as its web app would."""
    outgoing = [
        Outgoing(message_of(UpdateTaskStatus(task_id=task, new_status="in_progress")), f"status-{task}")
        for task in tasks
    ]
    await publish(ground, outgoing)


async def publish_mail_events(ground: Ground, number: int) -> None:
    """So many for nobody."""


async def publish(ground: Ground, outgoing: Sequence[Outgoing]) -> None:
    publisher = Publisher(ground.broker_url, name="chaos")
    try:
        for one in outgoing:
            await publisher.publish(one)
    finally:
        await publisher.close()
