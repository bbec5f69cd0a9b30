"""One process of each service with work under way, and a check of how all of it must end."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from taskbell.contracts.catalogue import CATALOGUE, COMMANDS
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.messaging.topology import dead_queue
from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS
from tests.chaos.support.app_tables import AppTables, Servers, every_status_changed_once, fresh_app_tables
from tests.chaos.support.comparison import compare
from tests.chaos.support.processes import Processes
from tests.chaos.support.sink import Sink, logged_sink
from tests.support.waiting import eventually

PEOPLE = 300
STATUSES = 700
LIMIT = 300.0  # seconds for everything to be caught up with


class Workload(NamedTuple):
    """One process of each service, a mailing, tasks for commands, and a queue for their events."""

    servers: Servers
    tables: AppTables
    sink: Sink
    processes: Processes
    tasks: range
    events: str
    """The queue of task.status_changed."""


@asynccontextmanager
async def running_workload(servers: Servers, folder: Path) -> AsyncIterator[Workload]:
    """Starts everything and a mailing; yields once the first mails are out."""
    async with prepared_workload(servers, folder) as it:
        await it.processes.start()
        await start_mailing(it)
        yield it
        await it.processes.stop()


@asynccontextmanager
async def prepared_workload(servers: Servers, folder: Path) -> AsyncIterator[Workload]:
    """A workload whose services do not run yet. The mail server is slow, so that the mailing outlasts the attack."""
    async with fresh_app_tables(servers) as tables, logged_sink(folder) as sink:
        sink.server.rule("DOT", delay=0.2)
        await tables.people(PEOPLE)
        tasks = await tables.tasks(STATUSES)
        events = await servers.management.listen("taskbell.events", "task.status_changed")
        async with Processes(environment(servers, tables, sink)) as processes:
            for service in ("scheduler", "notifier", "maintenance"):
                processes.add(service)
            yield Workload(servers, tables, sink, processes, tasks, events)


def environment(servers: Servers, tables: AppTables, sink: Sink, **more: str) -> dict[str, str]:
    """The settings of all services, and `more` of them."""
    return {
        "DATABASE_URL": tables.database_url,
        "BROKER_URL": servers.broker_url,
        "MAIL_SERVER": sink.server.host,
        "MAIL_PORT": str(sink.server.port),
        "MAIL_DEFAULT_SENDER": "Taskbell <taskbell@example.org>",
        "MAIL_LEASE_SECONDS": "10",
        "APP_URL": "https://app.example.org",
        "SECRET_KEY": "a secret of the tests",
    } | more


async def start_mailing(it: Workload) -> None:
    """Starts a mailing to everybody; returns once the first mails are out."""
    await it.tables.execute("SELECT taskbell.enqueue('overdue.due', '{}'::jsonb, 'the mailing')")
    await eventually(lambda: sum(it.sink.taken().values()) >= PEOPLE // 10, limit=LIMIT, what="the first mails")


async def publish_commands(servers: Servers, tasks: Sequence[int]) -> None:
    """Publishes one command for each task, to set it to in_progress."""
    await publish(
        servers, [(COMMANDS, "maintenance.update_task_status", started(task), f"status-{task}") for task in tasks]
    )


def started(task: int) -> bytes:
    """The body of a command that sets this task to in_progress."""
    return json.dumps({"task_id": task, "new_status": "in_progress"}).encode()


async def publish(servers: Servers, messages: Sequence[tuple[str, str, bytes, str]]) -> None:
    """Publishes each message (exchange, routing key, body, message_id); returns once all are confirmed."""
    publisher = Publisher(servers.broker_url, name="chaos")
    try:
        for exchange, key, body, message_id in messages:
            await publisher.publish(Outgoing(exchange, key, body, message_id, mandatory=True))
    finally:
        await publisher.close()


async def everything_is_consumed(servers: Servers) -> bool:
    """Whether every queue that a service reads has a consumer; False while the broker is away."""
    for message in CATALOGUE.values():
        if message.queue is not None:
            try:
                depth = await servers.management.depth(message.queue)
            except CONNECTION_ERRORS:
                return False
            assert depth.consumers > 0, message.queue
    return True


async def all_is_done(it: Workload) -> bool:
    """Fails unless every mail has ended, every command is done, and everything is published."""
    assert await it.tables.number("SELECT count(*) FROM taskbell.delivery") == PEOPLE
    assert await it.tables.open_deliveries() == 0
    assert await commands_are_done(it.tables)
    assert await it.tables.unpublished() == 0
    return True


async def commands_are_done(tables: AppTables) -> bool:
    """Whether all commands are done."""
    return await tables.number("SELECT count(*) FROM taskbell.command WHERE state = 'done'") == STATUSES


async def check(it: Workload) -> None:
    """Fails unless everybody has one mail, every status was changed once, and no queue holds a message."""
    comparison = await compare(it.tables, it.sink, people=PEOPLE, kinds=("overdue",))
    comparison.check()
    assert comparison.states == {"sent": PEOPLE}
    assert comparison.doubled == {}, "no process died"
    await every_status_changed_once(it.tables, it.servers, it.events, it.tasks)
    for service in ("notifier", "maintenance"):
        assert (await it.servers.management.depth(dead_queue(service))).ready == 0
    for message in CATALOGUE.values():
        if message.queue is not None:
            await eventually(lambda: is_empty(it.servers, message.queue))  # noqa: B023 - awaited at once


async def is_empty(servers: Servers, queue: str) -> bool:
    """Whether no message waits in that queue."""
    return (await servers.management.depth(queue)).ready == 0


def since(moment: float) -> float:
    """Seconds from that monotonic time until now."""
    return time.monotonic() - moment
