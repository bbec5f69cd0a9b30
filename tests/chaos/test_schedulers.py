"""Three schedulers of which one is at work at any time: each occurrence is published exactly once.

Time is virtual: the database's clock is set from one moment to the next, never so far that two occurrences of one
schedule and zone fall due at once, because then only the newer one would be published.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from tests.chaos.support.figures import Figures
from tests.chaos.support.plan import Plan
from tests.chaos.support.scheduler_scenario import DAY, HOUR, Due, Schedule, SchedulerScenario, scheduler_scenario
from tests.support.cron_oracle import Matcher
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

ROW = "three schedulers, killed at random"

SCHEDULES = {
    "halves": Schedule("*/30 * * * *", "reminder.due", minutes=Matcher([0, 30])),
    "hours": Schedule("10,40 0-22 * * *", "overdue.due"),
    "mornings": Schedule("5,35 1-12 * * *", "weekly.due"),
    "report": Schedule("*/20 * * * *", "maintenance.generate_task_report", "Europe/Berlin", Matcher([0, 20, 40])),
}
CATCHING_UP = {
    "halves": Schedule("*/30 * * * *", "reminder.due", minutes=Matcher([0, 30])),
    "mornings": Schedule("0 8 * * *", "overdue.due", catch_up=6 * HOUR),
    "brief": Schedule("30 2,14 * * *", "weekly.due", catch_up=timedelta(seconds=5)),
    "report": Schedule("0 7 * * *", "maintenance.generate_task_report", "Europe/Berlin", catch_up=12 * HOUR),
}
JUMPS = [(HOUR, False), (-HOUR, False), (HOUR, True), (HOUR / 2, False), (6 * HOUR, True), (3 * DAY, True)]
"""By how much the clock goes on or back, and whether nobody ran meanwhile."""


async def test_each_occurrence_is_published_exactly_once_whoever_dies(
    plan: Plan, seed: int, figures: Figures, database_url: str, vhost: Vhost, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    zones, wanted = plan.pick(quick=(60, 400), full=(150, 10_000))
    async with scheduler_scenario(database_url, vhost, tmp_path, chance, zones=zones, schedules=SCHEDULES) as it:
        start = it.shortly_before_a_clock_changes(chance)
        expected = first(it.due(start, start + 2 * DAY), wanted)
        await it.begin(start)
        known = 0
        for moment, count in steps(expected):
            await it.clock.set(moment)
            await attacked_until_recorded(it, chance, known, known + count)
            known += count
        await it.processes.stop()
        await it.processes.start()  # what the dead have left in the outbox
        await check(it, expected, [], seed)

        ids = it.arrivals.ids()
        figures.note(ROW, "occurrences", len(expected))
        figures.note(ROW, "kills", it.processes.kills)
        figures.note(ROW, "processes stopped for a while", it.processes.stops)
        figures.note(ROW, "messages repeated on the wire under their message_id", len(ids) - len(set(ids)))


@pytest.mark.full
async def test_clocks_that_jump_and_outages_end_in_one_occurrence_each_published_or_missed(
    plan: Plan, seed: int, figures: Figures, database_url: str, vhost: Vhost, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    zones, size = plan.pick(quick=(8, 2), full=(100, 3))
    async with scheduler_scenario(
        database_url, vhost, tmp_path, chance, zones=zones, schedules=CATCHING_UP, schedulers=size
    ) as it:
        known = now = it.shortly_before_a_clock_changes(chance)
        await it.begin(now)
        published: list[Due] = []
        missed: list[Due] = []
        for by, outage in JUMPS:
            now += by
            if outage:
                it.processes.kill_all()
            await it.clock.set(now)
            if outage:
                await it.processes.start()
            due = it.due(known, now)
            known = max(known, now)
            newest = {(one.schedule, one.zone): one for one in due}.values()
            caught_up = [one for one in newest if now - one.at <= CATCHING_UP[one.schedule].catch_up]
            published += caught_up
            missed += set(due).difference(caught_up)
            await recorded(it, len(published) + len(missed))
        await check(it, published, missed, seed)
        figures.note("clock moved, 6 h and 3 d of downtime", "occurrences published", len(published))
        figures.note("clock moved, 6 h and 3 d of downtime", "occurrences recorded as missed", len(missed))


async def recorded(it: SchedulerScenario, count: int) -> None:
    """Waits until so many occurrences are recorded."""

    async def all_recorded() -> bool:
        (row,) = await it.rows("SELECT count(*) FROM taskbell.occurrence")
        assert row[0] >= count, f"{row[0]} of {count} are recorded"
        return True

    await eventually(all_recorded)


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


async def attacked_until_recorded(it: SchedulerScenario, chance: random.Random, known: int, wanted: int) -> None:
    """Attacks the schedulers once they are at work, at a point that chance decides, and waits until all is recorded."""
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

    async def all_recorded() -> bool:
        nonlocal when
        count = await connection.fetchval("SELECT count(*) FROM taskbell.occurrence")
        if when is not None and when(count, len(it.arrivals.messages)):
            it.processes.attack()
            when = None
        assert count >= wanted, f"{count} of {wanted} are recorded"
        return True

    try:
        await eventually(all_recorded, limit=60)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{it.processes.ends_of_logs()}") from error
    finally:
        await connection.close()
    it.processes.end_round()


async def check(it: SchedulerScenario, published: list[Due], missed: list[Due], seed: int) -> None:
    """This and nothing else is recorded, and what is published is in the outbox once and arrives under one id each."""

    async def all_arrived() -> bool:
        (row,) = await it.rows("SELECT count(*) FROM taskbell.outbox WHERE published_at IS NULL")
        return bool(row[0] == 0 and len(set(it.arrivals.ids())) >= len(published))

    await eventually(all_arrived, what=f"all messages, SEED={seed}")
    await it.processes.stop()
    rows = await it.rows("SELECT at, schedule, zone, status, reason, message_id FROM taskbell.occurrence")
    recorded = {Due(row["at"], row["schedule"], row["zone"]): row["status"] for row in rows}
    assert len(recorded) == len(rows), f"SEED={seed}"
    assert recorded == dict.fromkeys(published, "published") | dict.fromkeys(missed, "missed"), f"SEED={seed}"
    assert all((row["status"] == "missed") == bool(row["reason"]) for row in rows), f"SEED={seed}"
    ids = [row["message_id"] for row in rows if row["status"] == "published"]
    assert Counter(ids) == Counter(row[0] for row in await it.rows("SELECT message_id FROM taskbell.outbox"))
    assert set(ids) == set(it.arrivals.ids()), f"SEED={seed}"
    once = {message.header.properties.message_id: message for message in it.arrivals.messages}
    arrived = [(message.routing_key, json.loads(message.body)) for message in once.values()]
    told = Counter((key, body["occurrence"], body.get("timezone")) for key, body in arrived)
    assert told == Counter(map(it.message, published)), f"SEED={seed}"
