"""Three schedulers of which one is at work at any time: each occurrence is published exactly once.

Time is virtual: the database's clock is set from one moment to the next, never so far that two occurrences of one
schedule and zone fall due at once, because then only the newer one would be published.
"""

import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from tests.chaos.crew import Arrivals, Crew
from tests.chaos.figures import Figures
from tests.chaos.plan import Plan
from tests.support.cron_oracle import Matcher, by_cronsim, by_minutes, clock_changes, iana_zones, rules
from tests.support.vhosts import Vhost
from tests.support.virtual_clock import VirtualClock
from tests.support.waiting import eventually

ROW = "three schedulers, killed at random"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
YEAR = 2025  # in the past: what is recorded by the real clock must not look old enough to be pruned


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


SCHEDULES = {
    "halves": Schedule("*/30 * * * *", "reminder.due", minutes=Matcher([0, 30])),
    "hours": Schedule("10,40 0-22 * * *", "overdue.due"),
    "mornings": Schedule("5,35 1-12 * * *", "weekly.due"),
    "report": Schedule("*/20 * * * *", "maintenance.generate_task_report", "Europe/Berlin", Matcher([0, 20, 40])),
}
QUEUES = ("notifier.reminder_due", "notifier.overdue_due", "notifier.weekly_due", "maintenance.generate_task_report")


@dataclass
class World:
    """A database with its clock and users in some zones, a virtual host, and three schedulers that do not run yet."""

    url: str
    clock: VirtualClock
    crew: Crew
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
        """It is that time, and everybody is ready: from now on occurrences count."""
        await self.clock.set(at)
        await self.crew.start()
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
        """What falls due with `after` < at <= `until`, in its order, as cronsim and the local clock have it."""
        found = []
        for name, zone in self.pairs():
            cron, _, _, minutes, _ = self.schedules[name]
            span = rules(zone), after, until
            instants = by_minutes(minutes, *span) if minutes else by_cronsim(cron, *span)
            found += [Due(at, name, zone) for at in instants]
        return sorted(found)

    def message(self, due: Due) -> tuple[str, str, str | None]:
        """Its message as it must arrive: routing key, occurrence and zone."""
        schedule = self.schedules[due.schedule]
        zone = due.zone if schedule.zone == "recipient" else None
        return schedule.publish, due.at.isoformat().replace("+00:00", "Z"), zone


@asynccontextmanager
async def world(
    database_url: str, vhost: Vhost, folder: Path, chance: random.Random, *, zones: int, schedules: dict[str, Schedule]
) -> AsyncIterator[World]:
    """A world with users in so many zones by chance, and one whose zone does not exist and who is in UTC therefore."""
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
        async with Arrivals(vhost.url, *QUEUES) as arrivals, Crew(3, environment, chance) as crew:
            yield World(database_url, clock, crew, arrivals, schedules, [*chosen, "UTC"])
    finally:
        await clock.close()


def entry(name: str, schedule: Schedule) -> str:
    """Its lines in the file."""
    values = {
        "name": name,
        "cron": schedule.cron,
        "timezone": schedule.zone,
        "publish": schedule.publish,
        "catch_up": f"{int(schedule.catch_up.total_seconds())}s",
    }
    return "[[schedule]]\n" + "".join(f'{key} = "{value}"\n' for key, value in values.items())


async def test_each_occurrence_is_published_exactly_once_whoever_dies(
    plan: Plan, seed: int, figures: Figures, database_url: str, vhost: Vhost, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    zones, wanted = plan.pick(quick=(60, 400), full=(150, 10_000))
    async with world(database_url, vhost, tmp_path, chance, zones=zones, schedules=SCHEDULES) as it:
        # Some hours before a change of the clock in one of the zones.
        changes = [at for zone in it.zones for at in clock_changes(rules(zone), YEAR, YEAR)]
        start = chance.choice(changes or [datetime(YEAR, 6, 1, tzinfo=UTC)]) - chance.randrange(12) * HOUR
        expected = first(it.due(start, start + 2 * DAY), wanted)
        await it.begin(start)
        known = 0
        for moment, count in steps(expected):
            await it.clock.set(moment)
            await attacked_until_recorded(it, chance, known, known + count)
            known += count
        await it.crew.stop()
        await it.crew.start()  # what the dead have left in the outbox
        await check_published(it, expected, seed)

        ids = it.arrivals.ids()
        figures.note(ROW, "occurrences", len(expected))
        figures.note(ROW, "kills", it.crew.kills)
        figures.note(ROW, "processes stopped for a while", it.crew.stops)
        figures.note(ROW, "messages repeated on the wire under their message_id", len(ids) - len(set(ids)))


def first(due: list[Due], count: int) -> list[Due]:
    """So many of them, and those that fall due at the same instant as the last."""
    assert len(due) > count, "a longer span is needed"
    return [it for it in due if it.at <= due[count - 1].at]


def steps(due: list[Due]) -> Iterator[tuple[datetime, int]]:
    """Moments to set the clock to, as far apart as no schedule is due twice in one zone; and how many fall due."""
    seen: set[tuple[str, str]] = set()
    instants = sorted({it.at for it in due})
    at_once = {at: [(it.schedule, it.zone) for it in due if it.at == at] for at in instants}
    last = instants[0]
    for at in instants:
        if seen.intersection(at_once[at]):
            yield last, len(seen)
            seen.clear()
        seen.update(at_once[at])
        last = at
    yield last, len(seen)


async def attacked_until_recorded(it: World, chance: random.Random, known: int, wanted: int) -> None:
    """Attacks the crew once they are at it, at a point that chance decides, and waits until all is recorded."""
    when: Callable[[int, int], bool] | None = None
    if chance.random() < 0.8:
        heard = len(it.arrivals.messages)
        records, messages = known + chance.randrange(wanted - known), heard + chance.randrange(wanted - known)
        when = chance.choice(
            [
                lambda *_: True,
                lambda recorded, _: recorded > records,  # in the middle of recording, or of what follows
                lambda _, arrived: arrived > messages,  # in the middle of publishing, before that is committed
            ]
        )
    connection = await asyncpg.connect(it.url)

    async def recorded() -> bool:
        nonlocal when
        count = await connection.fetchval("SELECT count(*) FROM taskbell.occurrence")
        if when is not None and when(count, len(it.arrivals.messages)):
            it.crew.attack()
            when = None
        assert count >= wanted, f"{count} of {wanted} are recorded"
        return True

    try:
        await eventually(recorded, limit=60)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{it.crew.last_words()}") from error
    finally:
        await connection.close()
    it.crew.rest()


async def check_published(it: World, expected: list[Due], seed: int) -> None:
    """All of this and nothing else is recorded as published, is in the outbox once, and arrives under one id each."""

    async def all_arrived() -> bool:
        (row,) = await it.rows("SELECT count(*) FROM taskbell.outbox WHERE published_at IS NULL")
        return bool(row[0] == 0 and len(set(it.arrivals.ids())) >= len(expected))

    await eventually(all_arrived, what=f"all messages, SEED={seed}")
    await it.crew.stop()
    rows = await it.rows("SELECT at, schedule, zone, status, message_id FROM taskbell.occurrence")
    assert {row["status"] for row in rows} == {"published"}, f"SEED={seed}"
    recorded = sorted(Due(row["at"], row["schedule"], row["zone"]) for row in rows)
    assert recorded == expected, f"SEED={seed}: {set(recorded) ^ set(expected)}"
    ids = [row["message_id"] for row in rows]
    assert Counter(ids) == Counter(row[0] for row in await it.rows("SELECT message_id FROM taskbell.outbox"))
    assert set(ids) == set(it.arrivals.ids()), f"SEED={seed}"
    once = {message.header.properties.message_id: message for message in it.arrivals.messages}
    arrived = [(message.routing_key, json.loads(message.body)) for message in once.values()]
    told = Counter((key, body["occurrence"], body.get("timezone")) for key, body in arrived)
    assert told == Counter(map(it.message, expected)), f"SEED={seed}"
