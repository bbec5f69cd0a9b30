"""The present version takes over from the former one, which was killed in the middle: its setup, then its services."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.management import Message
from tests.support.scripted_smtp import Accepted
from tests.support.servers import ServerUrls
from tests.support.virtual_clock import VirtualClock
from tests.support.waiting import eventually
from tests.upgrade.installation import EVENTS, SharedInstallation, fresh_installation
from tests.upgrade.versions import Version
from tests.upgrade.work import (
    BEGUN,
    BROKEN,
    BY_APP,
    MINUTE,
    MORNING,
    RUNNING,
    SESSIONS,
    WAITING,
    LeftWork,
    leave_work,
    schedules_file,
)

SERVICES = ("scheduler", "notifier", "maintenance")
AWAY = 15 * MINUTE
"""So long that every lease is over, and every mail that was put off is due."""
MAILINGS = ("overdue mailing", "weekly mailing", "reminders")
LATER = {
    **{f"begun-{task}": task for task in BEGUN},
    **{f"waiting-{task}": task for task in WAITING},
    **{f"app-{task}": task for task in BY_APP},
    f"retried-{BROKEN}": BROKEN,
}
"""The commands that the present version ends, each with its task."""


@dataclass(frozen=True)
class Upgraded:
    """The installation with the present version at work; the rest is as it was when all that was left was done."""

    installation: SharedInstallation
    present: Version
    left: LeftWork
    deliveries: Mapping[int, Mapping[str, Any]]
    commands: Mapping[str, Mapping[str, Any]]
    mails: tuple[Accepted, ...]
    """All that the mail server has taken, from both versions."""
    events: tuple[Message, ...]
    """All that was published to the exchange of events since the present version's setup."""

    def told(self, key: str) -> list[Message]:
        """The events of that routing key."""
        return [event for event in self.events if event.routing_key == key]

    async def taskbell(self, *arguments: str) -> Any:
        """What a command of the present version prints, as JSON."""
        return (await self.installation.taskbell(self.present, *arguments, "--json")).json()


@asynccontextmanager
async def upgraded_with_work_under_way(
    servers: ServerUrls, former: Version, present: Version, folder: Path
) -> AsyncIterator[Upgraded]:
    """The present version runs until the block ends. The folder is for settings."""
    settings = {"SCHEDULES_FILE": str(schedules_file(folder)), "MAIL_POOL_SIZE": str(SESSIONS)}
    async with AsyncExitStack() as stack:
        installation = await stack.enter_async_context(fresh_installation(servers, **settings))
        clock = VirtualClock(installation.database_url)
        stack.push_async_callback(clock.close)
        left = await leave_work(installation, former, clock)
        await clock.set(MORNING + AWAY, runs=True)
        await installation.taskbell(present, "setup")
        events = await installation.management.listen(EVENTS, "#")
        await asyncio.gather(*(installation.add(present, service).start() for service in SERVICES))
        await eventually(lambda: all_is_done(installation), limit=90, what="the end of all that was left")
        yield Upgraded(
            installation,
            present,
            left,
            await installation.deliveries(),
            await installation.commands(),
            tuple(installation.server.accepted),
            tuple(await installation.management.take(events)),
        )


async def all_is_done(installation: SharedInstallation) -> bool:
    """Whether every mail and command has ended, everything is published, and no message waits in a queue."""
    installation.processes.check_running(process for process in installation.processes.all if process.ready)
    unfinished = await installation.rows("SELECT message_id FROM taskbell.mailing WHERE completed_at IS NULL")
    assert not unfinished
    mailings = {row["message_id"] for row in await installation.rows("SELECT message_id FROM taskbell.mailing")}
    assert mailings >= set(MAILINGS), mailings
    assert set(await installation.commands()) >= LATER.keys()
    assert await installation.value("SELECT count(*) FROM taskbell.mailing WHERE kind = 'report'") == 1
    position = "SELECT position FROM taskbell.schedule_state WHERE schedule = $1"
    assert await installation.value(position, RUNNING) >= MORNING + AWAY
    assert not await installation.unpublished()
    for queue in await installation.management.queue_names():
        if not queue.startswith("listener.") and not queue.endswith(".dead"):
            assert not await installation.ready(queue), queue
    return True
