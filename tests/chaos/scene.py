"""One of each service with work under way, and what all of it must have come to in the end."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from taskbell.contracts.catalogue import CATALOGUE, COMMANDS
from taskbell.messaging.publishing.publisher import Outgoing, Publisher
from taskbell.messaging.topology import dead_queue
from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS
from tests.chaos import checker
from tests.chaos.crew import Crew
from tests.chaos.sink import Sink, logged_sink
from tests.chaos.town import Place, Town, every_status_changed_once, fresh_town
from tests.support.waiting import eventually

PEOPLE = 300
STATUSES = 700
LIMIT = 300.0  # seconds for everything to be caught up with


class Scene(NamedTuple):
    """One of each service, a mailing under way, and who listens to what becomes of it."""

    place: Place
    town: Town
    sink: Sink
    crew: Crew
    tasks: range
    events: str
    """The queue of task.status_changed."""


@asynccontextmanager
async def scene(place: Place, folder: Path) -> AsyncIterator[Scene]:
    """All is ready, and the first mails are out."""
    async with prepared(place, folder) as it:
        await it.crew.start()
        await start_mailing(it)
        yield it
        await it.crew.stop()


@asynccontextmanager
async def prepared(place: Place, folder: Path) -> AsyncIterator[Scene]:
    """Nothing runs yet. The mail server takes its time, so that the mailing is not over before what is to happen."""
    async with fresh_town(place) as town, logged_sink(folder) as sink:
        sink.server.rule("DOT", delay=0.2)
        await town.people(PEOPLE)
        tasks = await town.tasks(STATUSES)
        events = await place.management.listen("taskbell.events", "task.status_changed")
        async with Crew(environment(place, town, sink)) as crew:
            for service in ("scheduler", "notifier", "maintenance"):
                crew.add(service)
            yield Scene(place, town, sink, crew, tasks, events)


def environment(place: Place, town: Town, sink: Sink, **more: str) -> dict[str, str]:
    """The settings of all services."""
    return {
        "DATABASE_URL": town.database_url,
        "BROKER_URL": place.broker_url,
        "MAIL_SERVER": sink.server.host,
        "MAIL_PORT": str(sink.server.port),
        "MAIL_DEFAULT_SENDER": "Taskbell <taskbell@example.org>",
        "MAIL_LEASE_SECONDS": "10",
        "APP_URL": "https://app.example.org",
        "SECRET_KEY": "a secret of the tests",
    } | more


async def start_mailing(it: Scene) -> None:
    """To everybody; returns when it is under way."""
    await it.town.execute("SELECT taskbell.enqueue('overdue.due', '{}'::jsonb, 'the mailing')")
    await eventually(lambda: sum(it.sink.taken().values()) >= PEOPLE // 10, limit=LIMIT, what="the first mails")


async def publish_commands(place: Place, tasks: Sequence[int]) -> None:
    """One for each of the tasks, to start work on it."""
    await publish(
        place, [(COMMANDS, "maintenance.update_task_status", started(task), f"status-{task}") for task in tasks]
    )


def started(task: int) -> bytes:
    """The body of a command."""
    return json.dumps({"task_id": task, "new_status": "in_progress"}).encode()


async def publish(place: Place, messages: Sequence[tuple[str, str, bytes, str]]) -> None:
    """Each of them (exchange, routing key, body, message_id), confirmed."""
    publisher = Publisher(place.broker_url, name="chaos")
    try:
        for exchange, key, body, message_id in messages:
            await publisher.publish(Outgoing(exchange, key, body, message_id, mandatory=True))
    finally:
        await publisher.close()


async def everything_is_consumed(place: Place) -> bool:
    """Has every queue that a service reads a consumer?"""
    for message in CATALOGUE.values():
        if message.queue is not None:
            try:
                depth = await place.management.depth(message.queue)
            except CONNECTION_ERRORS:
                return False
            assert depth.consumers > 0, message.queue
    return True


async def all_is_done(it: Scene) -> bool:
    """Every mail has ended, every command is done, and everything is published."""
    assert await it.town.number("SELECT count(*) FROM taskbell.delivery") == PEOPLE
    assert await it.town.open_deliveries() == 0
    assert await commands_are_done(it.town)
    assert await it.town.unpublished() == 0
    return True


async def commands_are_done(town: Town) -> bool:
    """All of them."""
    return await town.number("SELECT count(*) FROM taskbell.command WHERE state = 'done'") == STATUSES


async def check(it: Scene) -> None:
    """Everybody has one mail, every status was changed once, and nothing is left or went to the dead letters."""
    verdict = await checker.compare(it.town, it.sink, people=PEOPLE, kinds=("overdue",))
    verdict.check()
    assert verdict.states == {"sent": PEOPLE}
    assert verdict.doubled == {}, "no process died"
    await every_status_changed_once(it.town, it.place, it.events, it.tasks)
    for service in ("notifier", "maintenance"):
        assert (await it.place.management.depth(dead_queue(service))).ready == 0
    for message in CATALOGUE.values():
        if message.queue is not None:
            await eventually(lambda: is_empty(it.place, message.queue))  # noqa: B023 - awaited at once


async def is_empty(place: Place, queue: str) -> bool:
    """Does nothing wait there?"""
    return (await place.management.depth(queue)).ready == 0


def since(moment: float) -> float:
    """Seconds from that monotonic time until now."""
    return time.monotonic() - moment
