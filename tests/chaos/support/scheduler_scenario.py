"""Schedules, users and a clock that tests set, and the occurrences that fall due in each zone."""

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from tests.chaos.support.arrivals import Arrivals
from tests.chaos.support.scheduler_processes import SchedulerProcesses
from tests.support.cron_oracle import Matcher, by_cronsim, by_minutes, clock_changes, iana_zones, rules
from tests.support.vhosts import Vhost
from tests.support.virtual_clock import VirtualClock
from tests.support.waiting import eventually

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# In the past: what is recorded by the real clock must not look old enough to be pruned.
YEAR = 2025


class Schedule(NamedTuple):
    """An entry of the schedules file, and how its occurrences are found without the scheduler."""

    cron: str
    publish: str
    zone: str = "recipient"
    minutes: Matcher | None = None
    """For `*` hours; None: fixed hours, ask cronsim."""
    catch_up: timedelta = HOUR


class Due(NamedTuple):
    """One occurrence."""

    at: datetime
    schedule: str
    zone: str


QUEUES = ("notifier.reminder_due", "notifier.overdue_due", "notifier.weekly_due", "maintenance.generate_task_report")


@dataclass
class SchedulerScenario:
    """A database with its clock and users in some zones, a virtual host, and schedulers that do not run yet."""

    url: str
    clock: VirtualClock
    processes: SchedulerProcesses
    arrivals: Arrivals
    schedules: dict[str, Schedule]
    zones: list[str]

    async def rows(self, query: str) -> list[Any]:
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    async def begin(self, at: datetime) -> None:
        """Sets the clock and starts the schedulers; returns when they know all schedules."""
        await self.clock.set(at)
        await self.processes.start()
        pairs = sum(1 for _ in self.pairs())

        async def all_begun() -> bool:
            return [pairs] == [row[0] for row in await self.rows("SELECT count(*) FROM taskbell.schedule_state")]

        await eventually(all_begun)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every schedule in each of its zones."""
        for name, schedule in self.schedules.items():
            for zone in self.zones if schedule.zone == "recipient" else [schedule.zone]:
                yield name, zone

    def due(self, after: datetime, until: datetime) -> list[Due]:
        """What falls due with `after` < at <= `until`, in order of time, by cronsim and each zone's local clock."""
        found = []
        for name, zone in self.pairs():
            cron, _, _, minutes, _ = self.schedules[name]
            span = rules(zone), after, until
            instants = by_minutes(minutes, *span) if minutes else by_cronsim(cron, *span)
            found += [Due(at, name, zone) for at in instants]
        return sorted(found)

    def shortly_before_a_clock_changes(self, chance: random.Random) -> datetime:
        """A time up to eleven hours before a clock changes in one of the zones."""
        changes = [at for zone in self.zones for at in clock_changes(rules(zone), YEAR, YEAR)]
        return chance.choice(changes or [datetime(YEAR, 6, 1, tzinfo=UTC)]) - chance.randrange(12) * HOUR

    def message(self, due: Due) -> tuple[str, str, str | None]:
        """Its message as it must arrive: routing key, occurrence and zone."""
        schedule = self.schedules[due.schedule]
        zone = due.zone if schedule.zone == "recipient" else None
        return schedule.publish, due.at.isoformat().replace("+00:00", "Z"), zone


@asynccontextmanager
async def scheduler_scenario(
    database_url: str,
    vhost: Vhost,
    folder: Path,
    chance: random.Random,
    *,
    zones: int,
    schedules: dict[str, Schedule],
    schedulers: int = 3,
) -> AsyncIterator[SchedulerScenario]:
    """A scenario with users in random zones; one user's zone does not exist, which counts as UTC."""
    chosen = chance.sample([zone for zone in iana_zones() if zone != "UTC"], zones - 1)
    clock = VirtualClock(database_url)
    await clock.install()
    connection = await asyncpg.connect(database_url)
    try:
        add = "INSERT INTO users (name, email, timezone, is_active) VALUES ('A', 'a@example.org', $1, true)"
        await connection.executemany(add, [(zone,) for zone in [*chosen, "Mars/Olympus"]])
    finally:
        await connection.close()
    file = folder / "schedules.toml"
    file.write_text("\n".join(entry(name, schedule) for name, schedule in schedules.items()))
    servers = {"DATABASE_URL": database_url, "BROKER_URL": vhost.url}
    environment = servers | {"TIMEZONE": "UTC", "SCHEDULES_FILE": str(file)}
    try:
        async with (
            Arrivals(vhost.url, *QUEUES) as arrivals,
            SchedulerProcesses(schedulers, environment, chance) as processes,
        ):
            yield SchedulerScenario(database_url, clock, processes, arrivals, schedules, [*chosen, "UTC"])
    finally:
        await clock.close()


def entry(name: str, schedule: Schedule) -> str:
    """The schedule's lines in the schedules file."""
    values = {
        "name": name,
        "cron": schedule.cron,
        "timezone": schedule.zone,
        "publish": schedule.publish,
        "catch_up": f"{int(schedule.catch_up.total_seconds())}s",
    }
    return "[[schedule]]\n" + "".join(f'{key} = "{value}"\n' for key, value in values.items())
