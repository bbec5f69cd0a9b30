"""A server that is away, or short of memory, for minutes while work is under way: all of it waits, and none is lost."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from taskbell.contracts.catalogue import EVENTS
from taskbell.errors import BrokerUnavailable
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import PUBLISH_TIMEOUT, Publisher
from tests.chaos.support.app_tables import nothing_can_be_written
from tests.chaos.support.figures import Figures
from tests.chaos.support.own_servers import OwnServers
from tests.chaos.support.plan import Plan
from tests.chaos.support.workload import (
    LIMIT,
    STATUSES,
    all_is_done,
    check,
    commands_are_done,
    everything_is_consumed,
    is_empty,
    prepared_workload,
    publish,
    publish_commands,
    running_workload,
    since,
    start_mailing,
)
from tests.support.waiting import eventually

EVENTS_FOR_NOBODY = 300


async def test_the_broker_is_killed_for_a_minute(
    own_servers: OwnServers, plan: Plan, figures: Figures, tmp_path: Path
) -> None:
    away = plan.pick(quick=3.0, full=60.0)
    async with running_workload(own_servers, tmp_path) as it:
        pids = [process.pid for process in it.processes.all]
        await asyncio.to_thread(own_servers.kill, "rabbitmq")
        killed = time.monotonic()
        await it.tables.start_work_on(it.tasks)
        assert await it.tables.unpublished() == STATUSES
        await asyncio.sleep(max(0.0, killed + away - time.monotonic()))
        back = await own_servers.start("rabbitmq")
        await eventually(lambda: everything_is_consumed(own_servers), limit=LIMIT)
        row = "broker killed"
        figures.note(row, "seconds away", back - killed, at_least=away)
        figures.note(row, "seconds from its accepting connections to the last consumer", since(back), at_most=10)
        await eventually(lambda: all_is_done(it), limit=LIMIT)
        figures.note(row, "seconds until all was caught up with", since(back))
        assert [process.pid for process in it.processes.all] == pids
        await check(it)


@pytest.mark.full
async def test_services_that_start_before_their_broker_wait_for_it_and_say_so(
    own_servers: OwnServers, plan: Plan, figures: Figures, tmp_path: Path
) -> None:
    async with prepared_workload(own_servers, tmp_path) as it:
        await asyncio.to_thread(own_servers.stop, "rabbitmq")
        starting = asyncio.create_task(it.processes.start())
        for process in it.processes.all:
            await eventually(lambda: process.is_red("RabbitMQ"), limit=60, what=f"{process.name} red")  # noqa: B023
        await it.tables.start_work_on(it.tasks)
        stopped = time.monotonic()
        await asyncio.sleep(plan.pick(quick=0.0, full=30.0))
        it.processes.check_running()
        assert not starting.done()
        assert await it.tables.unpublished() == STATUSES
        back = await own_servers.start("rabbitmq")
        await eventually(lambda: everything_is_consumed(own_servers), limit=LIMIT)
        row = "broker down at start"
        figures.note(row, "seconds waited for it", back - stopped)
        figures.note(row, "seconds from its accepting connections to the last consumer", since(back), at_most=10)
        await starting
        it.sink.server.clear()
        await start_mailing(it)
        await eventually(lambda: all_is_done(it), limit=LIMIT)
        await check(it)
        await it.processes.stop()


async def test_postgresql_is_stopped_for_two_minutes_with_a_thousand_messages_queued(
    own_servers: OwnServers, plan: Plan, figures: Figures, tmp_path: Path
) -> None:
    away = plan.pick(quick=5.0, full=120.0)
    async with running_workload(own_servers, tmp_path) as it, Redeliveries(own_servers) as redeliveries:
        pids = [process.pid for process in it.processes.all]
        async with nothing_can_be_written(it.tables):
            await publish_commands(own_servers, it.tasks[:100])
            await eventually(lambda: all_are_taken(own_servers), what="commands under way")
            await asyncio.to_thread(own_servers.stop, "postgresql")
        stopped = time.monotonic()
        await publish_commands(own_servers, it.tasks[100:])
        await publish_events_for_nobody(own_servers, EVENTS_FOR_NOBODY)
        used = cpu_seconds(pids)
        for process in it.processes.all:
            await eventually(process.is_red, what=f"{process.name} red")
        await asyncio.sleep(max(0.0, stopped + away - time.monotonic()))
        it.processes.check_running()
        busy = (cpu_seconds(pids) - used) / (time.monotonic() - stopped)
        back = await own_servers.start("postgresql")
        for process in it.processes.all:
            await eventually(process.is_ready, limit=LIMIT, what=f"{process.name} green")
        row = "PostgreSQL stopped"
        figures.note(row, "seconds away", back - stopped, at_least=away)
        figures.note(row, "share of a core used by all services meanwhile", busy, at_most=0.1)
        figures.note(row, "seconds until all were ready again", since(back))
        await eventually(lambda: all_is_done(it), limit=LIMIT)
        figures.note(row, "seconds until all was caught up with", since(back))
        assert [process.pid for process in it.processes.all] == pids, "restarted"
        await check(it)
        counts = await redeliveries.taken()
        figures.note(row, "messages delivered", len(counts), at_least=1_000)
        figures.note(row, "redeliveries of a message, at most", max(counts.values()) - 1, at_most=3)
        assert {f"status-{task}" for task in it.tasks} <= set(counts)
        assert max(counts.values()) <= 1 + 3, counts.most_common(5)


async def test_the_broker_is_short_of_memory(
    own_servers: OwnServers, plan: Plan, figures: Figures, tmp_path: Path
) -> None:
    lasts = plan.pick(quick=5.0, full=120.0)
    async with running_workload(own_servers, tmp_path) as it:
        paused = [*it.processes.of("maintenance"), *it.processes.of("notifier")]
        # They find their queues full when they go on, during the alarm.
        for process in paused:
            process.pause()
        await publish_commands(own_servers, it.tasks)
        await own_servers.run_short_of_memory(True)
        began = time.monotonic()
        try:
            mails = sum(it.sink.taken().values())
            for process in paused:
                process.resume()
            longest = 0.0
            while since(began) < lasts:
                longest = max(longest, await seconds_to_fail(own_servers))
            await eventually(lambda: commands_are_done(it.tables), limit=LIMIT, what="commands done under the alarm")
            more = sum(it.sink.taken().values()) - mails
            waiting = await it.tables.unpublished()
        finally:
            await own_servers.run_short_of_memory(False)
        over = time.monotonic()
        assert more > 0, "no mail was sent under the alarm"
        assert waiting >= STATUSES, "the events' rows wait for the broker"
        await eventually(lambda: all_is_done(it), limit=LIMIT)
        row = "memory alarm"
        figures.note(row, "seconds it lasted", over - began, at_least=lasts)
        figures.note(row, "longest publish until it failed, seconds", longest, at_most=PUBLISH_TIMEOUT + 0.5)
        figures.note(row, "commands and mails handled meanwhile", STATUSES + more)
        figures.note(row, "seconds until all was caught up with", since(over))
        await check(it)


class Redeliveries:
    """How often each message was delivered to a queue of ours, as the broker itself tells (its firehose)."""

    def __init__(self, own_servers: OwnServers) -> None:
        self._own_servers = own_servers
        self._queues: list[str] = []

    async def __aenter__(self) -> "Redeliveries":
        for service in ("notifier", "maintenance"):
            self._queues.append(await self._own_servers.management.listen("amq.rabbitmq.trace", f"deliver.{service}.#"))
        await self._own_servers.trace(True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._own_servers.trace(False)

    async def taken(self) -> Counter[str]:
        """Deliveries so far by message_id."""
        counts: Counter[str] = Counter()
        for queue in self._queues:
            while messages := await self._own_servers.management.take(queue):
                counts.update(message.headers["properties"]["message_id"] for message in messages)
        return counts


async def publish_events_for_nobody(own_servers: OwnServers, number: int) -> None:
    """So many that the notifier has to handle, and that mail nobody."""
    keys = ("reminder.due", "overdue.due", "weekly.due")
    await publish(own_servers, [(EVENTS, keys[n % 3], b'{"user_ids": []}', f"event-{n}") for n in range(number)])


async def seconds_to_fail(own_servers: OwnServers) -> float:
    """How long a publish takes until it fails, under an alarm; what has no queue is published, so that none fills."""
    publisher = Publisher(own_servers.broker_url, name="chaos under an alarm")
    try:
        while True:  # what is on its way when the connection is blocked may be let through
            began = time.monotonic()
            try:
                await publisher.publish(Outgoing(EVENTS, "tasks.archived", b"{}", "under an alarm"))
            except BrokerUnavailable:
                return since(began)
    finally:
        await publisher.close()


async def all_are_taken(own_servers: OwnServers) -> bool:
    """Are all commands in their consumer's hands?"""
    return await is_empty(own_servers, "maintenance.update_task_status")


def cpu_seconds(pids: Sequence[int]) -> float:
    """What these processes have used so far."""
    used = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])
    return used / os.sysconf("SC_CLK_TCK")
