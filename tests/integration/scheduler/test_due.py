"""What is due is published once, by any number of schedulers; the rest is recorded with its reason."""

import asyncio
import json
import random
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID, uuid5

import asyncpg
import pytest
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs
from tests.integration.scheduler.conftest import MINUTELY, SchedulerHarness, entry, utc
from tests.support.probes import ping
from tests.support.waiting import eventually

from taskbell.errors import DatabaseUnavailable
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.pruning import Pruner
from taskbell_scheduler.app import ended_rows
from taskbell_scheduler.domain import LISTED
from taskbell_scheduler.reconcile import Changes
from taskbell_scheduler.repository import scheduling

REPORT = entry("report", "0 7 * * *", "maintenance.generate_task_report", catch_up="12h")
REMINDERS = entry("reminders", "0 8 * * *", timezone="recipient")
OVERDUE = entry("overdue", "0 9 * * *", "overdue.due", timezone="recipient")
WEEKLY = entry("weekly", "0 10 * * mon", "weekly.due", timezone="recipient", catch_up="24h")
CLEANUP = entry("cleanup", "0 2 * * sun", "maintenance.cleanup_completed_tasks", catch_up="24h")


async def test_a_schedule_seen_for_the_first_time_starts_at_that_moment(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T08:00:00")
    scheduler = harness.scheduler(MINUTELY)
    await harness.turn(scheduler)
    assert await harness.occurrences() == []
    assert await harness.sql("SELECT position FROM taskbell.schedule_state") == [(utc("2026-11-20T08:00"),)]
    await harness.at("2026-11-20T08:01:30")
    await harness.turn(scheduler)
    assert await harness.statuses() == {"2026-11-20T08:01:00Z": "published"}
    assert await harness.sql("SELECT position FROM taskbell.schedule_state") == [(utc("2026-11-20T08:01"),)]


class ChangedTheirMind(Exception):
    """Rolls back."""


async def test_a_row_that_a_person_holds_stops_only_itself(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T08:00:30")
    scheduler = harness.scheduler(MINUTELY, MINUTELY.replace("tick", "held"))
    await harness.turn(scheduler)
    await harness.at("2026-11-20T08:01:00")
    with suppress(ChangedTheirMind):
        async with harness.database.transaction() as transaction:
            await transaction.execute("UPDATE taskbell.schedule_state SET note = 'wait' WHERE schedule = 'held'")
            await harness.turn(scheduler)
            assert [row[0] for row in await harness.occurrences()] == ["tick"]
            newcomer = harness.scheduler(MINUTELY, MINUTELY.replace("tick", "held"), MINUTELY.replace("tick", "new"))
            await harness.turn(newcomer)
            assert await harness.sql("SELECT 1 FROM taskbell.schedule_state WHERE schedule = 'new'") == []
            raise ChangedTheirMind
    await harness.at("2026-11-20T08:01:01")
    await harness.turn(scheduler, newcomer)
    assert [row[0] for row in await harness.occurrences()] == ["held", "tick"]
    assert len(await harness.sql("SELECT 1 FROM taskbell.schedule_state WHERE schedule = 'new'")) == 1


async def test_a_change_that_another_scheduler_made_first_is_not_made_again(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T08:00")
    pair, cron = ("tick", "UTC"), "* * * * *"

    async def start(cron: str, generation: int) -> list[tuple[str, datetime]]:
        async with harness.database.transaction() as transaction:
            await scheduling.apply(transaction, Changes(start=[(pair, cron)]), generation)
        return [tuple(row) for row in await harness.sql("SELECT cron, position FROM taskbell.schedule_state")]

    first = await start(cron, 1)
    await harness.at("2026-11-20T08:05")
    assert await start(cron, 1) == first, "it runs already"
    assert await start("0 * * * *", 1) == first, "who started as early does not change it"
    assert await start("0 * * * *", 2) == [("0 * * * *", utc("2026-11-20T08:05"))]


async def test_three_schedulers_publish_each_minute_once(harness: SchedulerHarness) -> None:
    start = utc("2026-10-25T00:30:30")
    await harness.at(start.isoformat())
    schedulers = [harness.scheduler(MINUTELY, timezone="Europe/Berlin") for _ in range(3)]
    await harness.turn(*schedulers)
    for minute in range(1, 61):
        await harness.at((start + timedelta(minutes=minute)).isoformat())
        await harness.turn(*schedulers)
    statuses = await harness.statuses()
    assert len(statuses) == 60
    assert set(statuses.values()) == {"published"}
    ids = await harness.sql("SELECT message_id FROM taskbell.outbox")
    assert len(set(ids)) == len(ids) == 60


async def test_each_minute_is_published_once_though_connections_break_at_random(harness: SchedulerHarness) -> None:
    chance = random.Random(seed := random.randrange(2**32))
    print(f"seed {seed}")
    start = utc("2026-11-20T08:00:00")
    await harness.at(start.isoformat())
    schedulers = [harness.scheduler(MINUTELY) for _ in range(3)]
    await harness.turn(*schedulers)
    killer = await asyncpg.connect(harness.url)

    async def kill() -> None:
        await asyncio.sleep(chance.random() * 0.02)
        await killer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'test scheduler' AND datname = current_database() AND random() < 0.5"
        )

    for minute in range(1, 41):
        await harness.at((start + timedelta(minutes=minute)).isoformat(), runs=True)
        turns = [scheduler.turn(asyncio.Event()) for scheduler in schedulers]
        ended = await asyncio.gather(kill(), *turns, return_exceptions=True)
        assert all(it is None or isinstance(it, DatabaseUnavailable) for it in ended), ended

        async def attended(minute: int = minute) -> bool:
            with suppress(DatabaseUnavailable):
                await harness.turn(chance.choice(schedulers))
            recorded = await killer.fetchval("SELECT count(*) FROM taskbell.occurrence")
            return bool(recorded == minute)

        await eventually(attended)
    await killer.close()
    assert set((await harness.statuses()).values()) == {"published"}
    ids = await harness.sql("SELECT message_id FROM taskbell.outbox")
    assert len(set(ids)) == len(ids) == 40


async def test_messages_carry_what_their_contract_has_room_for(harness: SchedulerHarness) -> None:
    await harness.add_user("Europe/Berlin")
    await harness.at("2026-11-19T00:00")
    scheduler = harness.scheduler(REPORT, REMINDERS)
    await harness.turn(scheduler)
    await harness.at("2026-11-19T07:00:00.400")
    await harness.turn(scheduler)
    assert {key: json.loads(body) for key, body in await harness.messages()} == {
        "maintenance.generate_task_report": {"occurrence": "2026-11-19T07:00:00Z"},
        "reminder.due": {"occurrence": "2026-11-19T07:00:00Z", "timezone": "Europe/Berlin"},
    }
    rows = await harness.sql(
        "SELECT o.schedule, o.message_id = m.message_id, m.owner FROM taskbell.occurrence o"
        " JOIN taskbell.outbox m USING (message_id) ORDER BY 1"
    )
    assert rows == [("reminders", True, "scheduler"), ("report", True, "scheduler")]


async def test_each_zone_of_a_recipient_has_its_own_morning(harness: SchedulerHarness) -> None:
    for zone in ("Europe/Berlin", "Asia/Tokyo", "America/New_York"):
        await harness.add_user(zone)
    await harness.at("2026-11-19T00:00")
    scheduler = harness.scheduler(REMINDERS)
    await harness.turn(scheduler)
    hours: dict[str, int] = {}
    for hour in range(24):
        await harness.at(f"2026-11-19T{hour:02}:00")
        await harness.turn(scheduler)
        for _, zone, _, _ in await harness.occurrences():
            hours.setdefault(zone, hour)
    assert hours == {"Europe/Berlin": 7, "America/New_York": 13, "Asia/Tokyo": 23}


async def test_ten_days_without_a_scheduler_around_a_monday(harness: SchedulerHarness) -> None:
    short = REPORT.replace('"report"', '"short"').replace('"12h"', '"1h"')
    await harness.add_user("Europe/Berlin")
    await harness.add_user("Asia/Tokyo")
    await harness.at("2026-11-13T00:00")
    entries = (REPORT, REMINDERS, OVERDUE, WEEKLY, CLEANUP, short)
    await harness.turn(harness.scheduler(*entries))

    # Back on Monday, 23 November, at 13:00 in Berlin and 21:00 in Tokyo.
    await harness.at("2026-11-23T12:00")
    await harness.sql("UPDATE taskbell.schedule_state SET position = :at", at=utc("2026-11-13T12:00"))
    await harness.turn(harness.scheduler(*entries))

    found: dict[tuple[str, str], list[str]] = {}
    for schedule, zone, _, status in await harness.occurrences():
        found.setdefault((schedule, zone), []).append(status)
    assert found == {
        ("report", "UTC"): ["missed"] * 9 + ["published"],  # 7:00, within 12 h
        ("short", "UTC"): ["missed"] * 10,  # 7:00, not within 1 h
        ("reminders", "Europe/Berlin"): ["missed"] * 9 + ["published"],  # 8:00 in Berlin, 5 h ago
        ("reminders", "Asia/Tokyo"): ["missed"] * 10,  # 8:00 in Tokyo, 13 h ago
        ("overdue", "Europe/Berlin"): ["missed"] * 9 + ["published"],
        ("overdue", "Asia/Tokyo"): ["missed"] * 10,
        ("weekly", "Europe/Berlin"): ["missed", "published"],  # the 16th and today at 10:00
        ("weekly", "Asia/Tokyo"): ["missed", "published"],
        ("cleanup", "UTC"): ["missed", "missed"],  # the 15th and the 22nd at 2:00, 34 h ago
    }
    assert sorted(key for key, _ in await harness.messages()) == [
        "maintenance.generate_task_report",
        "overdue.due",
        "reminder.due",
        "weekly.due",
        "weekly.due",
    ]
    reasons = await harness.sql("SELECT DISTINCT reason FROM taskbell.occurrence WHERE schedule = 'short' ORDER BY 1")
    assert [reason for (reason,) in reasons] == ["no scheduler ran", "noticed 5 h late, outside its catch-up window"]


async def test_a_position_set_back_publishes_nothing_again(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T08:00:30")
    scheduler = harness.scheduler(MINUTELY)
    await harness.turn(scheduler)
    for minute in (1, 2, 3):
        await harness.at(f"2026-11-20T08:0{minute}:30")
        await harness.turn(scheduler)
    published = await harness.messages()
    await harness.sql("UPDATE taskbell.schedule_state SET position = position - interval '1 day'")
    await harness.turn(scheduler, harness.scheduler(MINUTELY))
    assert await harness.messages() == published
    assert list((await harness.statuses()).values()).count("published") == 3
    # The occurrence alone is the fence: messages that were published long ago are deleted.
    await harness.sql("DELETE FROM taskbell.outbox")
    await harness.sql("UPDATE taskbell.schedule_state SET position = position - interval '1 day'")
    await harness.turn(scheduler, harness.scheduler(MINUTELY))
    assert await harness.messages() == []


async def test_nobody_can_take_an_occurrences_message_beforehand(harness: SchedulerHarness) -> None:
    """Also not under the id that former versions gave it, which anybody can compute."""
    await harness.at("2026-11-20T08:00:30")
    scheduler = harness.scheduler(MINUTELY)
    await harness.turn(scheduler)
    former = uuid5(UUID("6f0f7ad5-5d0b-5b3e-9f5b-6a4f0f1c2f7e"), "tick/UTC/2026-11-20T08:01:00Z")
    await harness.sql("SELECT taskbell.enqueue('weekly.due', '{}', :id)", id=str(former))
    await harness.at("2026-11-20T08:01:30")
    await harness.turn(scheduler)
    rows = await harness.sql("SELECT owner, message_id FROM taskbell.outbox ORDER BY id")
    assert [row.owner for row in rows] == ["app", "scheduler"]
    assert await harness.sql("SELECT message_id FROM taskbell.occurrence") == [(rows[1].message_id,)]
    assert UUID(rows[1].message_id).version == 4


async def test_a_message_in_the_way_of_an_occurrence_is_said_and_the_next_turn_publishes_it(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.at("2026-11-20T08:00:30")
    scheduler = harness.scheduler(MINUTELY)
    await harness.turn(scheduler)
    await harness.sql("SELECT taskbell.enqueue('weekly.due', '{}', 'known')")
    await harness.at("2026-11-20T08:01:30")
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(scheduling, "uuid4", lambda: "known")
        with pytest.raises(IntegrityError):
            await harness.turn(scheduler)
    assert [(it["event"], it["log_level"], it["schedules"]) for it in logs] == [
        ("occurrence.foreign", "error", ["tick"])
    ]
    assert await harness.occurrences() == []
    await harness.turn(scheduler)
    assert list((await harness.statuses()).values()) == ["published"]
    assert len(await harness.messages()) == 2


async def test_a_clock_set_back_by_an_hour_fires_nothing_twice(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T08:00:30")
    scheduler = harness.scheduler(MINUTELY)
    await harness.turn(scheduler)
    await harness.at("2026-11-20T09:00:30")
    await harness.turn(scheduler)
    await harness.at("2026-11-20T08:00:40")
    for minute in range(1, 61):
        await harness.at(f"2026-11-20T08:{minute:02}:40" if minute < 60 else "2026-11-20T09:00:40")
        await harness.turn(scheduler)
    statuses = await harness.statuses()
    assert [key for key, status in statuses.items() if status == "published"] == ["2026-11-20T09:00:00Z"]
    assert len(await harness.messages()) == 1
    await harness.at("2026-11-20T09:01:00")
    await harness.turn(scheduler)
    assert (await harness.statuses())["2026-11-20T09:01:00Z"] == "published"


async def test_a_thousand_missed_have_rows_and_one_row_counts_the_rest(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T08:00:30")
    await harness.turn(harness.scheduler(MINUTELY))
    await harness.sql("UPDATE taskbell.schedule_state SET position = position - interval '30 days'")
    await harness.turn(harness.scheduler(MINUTELY))
    rows = await harness.sql("SELECT status, count(*), sum(occurrences) FROM taskbell.occurrence GROUP BY 1 ORDER BY 1")
    assert rows == [("missed", LISTED + 1, 30 * 1440 - 1), ("published", 1, 1)]


@pytest.mark.parametrize("position", ["-infinity", "infinity", "20000-01-01Z", "0001-01-01Z"])
async def test_no_position_stops_the_others(harness: SchedulerHarness, position: str) -> None:
    await harness.at("2026-11-20T08:00:30")
    broken = MINUTELY.replace("tick", "broken")
    scheduler = harness.scheduler(MINUTELY, broken)
    await harness.turn(scheduler)
    await harness.sql(
        "UPDATE taskbell.schedule_state SET position = CAST(CAST(:position AS text) AS timestamptz)"
        " WHERE schedule = 'broken'",
        position=position,
    )
    await harness.at("2026-11-20T08:01:30")
    await harness.turn(scheduler)
    await harness.turn(scheduler)
    published = [schedule for schedule, _, _, status in await harness.occurrences() if status == "published"]
    assert published == (["tick"] if position in {"infinity", "20000-01-01Z"} else ["broken", "tick"])


async def test_a_scheduler_that_dies_before_its_commit_leaves_all_to_the_next(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.at("2026-11-20T08:00:30")
    dying, living = harness.scheduler(MINUTELY), harness.scheduler(MINUTELY)
    await harness.turn(dying, living)
    await harness.at("2026-11-20T08:01:00")
    record = scheduling.record

    async def die_after(*given: object) -> None:
        await record(*given)  # type: ignore[arg-type] - passed on as it came
        raise ConnectionAbortedError

    monkeypatch.setattr(scheduling, "record", die_after)
    with pytest.raises(ConnectionAbortedError):
        await harness.turn(dying)
    monkeypatch.setattr(scheduling, "record", record)
    assert await harness.occurrences() == []
    await harness.turn(living)
    assert await harness.statuses() == {"2026-11-20T08:01:00Z": "published"}
    assert len(await harness.messages()) == 1


async def test_a_scheduler_that_stands_still_in_its_transaction_loses_it_to_another(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.at("2026-11-20T08:00:30")
    stalled, living = harness.scheduler(MINUTELY), harness.scheduler(MINUTELY)
    await harness.turn(stalled, living)
    await harness.at("2026-11-20T08:01:00", runs=True)
    record, entered, woken = scheduling.record, asyncio.Event(), asyncio.Event()

    async def stand_still(*given: object) -> object:
        recorded = await record(*given)  # type: ignore[arg-type] - passed on as it came
        monkeypatch.setattr(scheduling, "record", record)
        entered.set()
        await woken.wait()
        return recorded

    monkeypatch.setattr(scheduling, "record", stand_still)
    asleep = asyncio.create_task(harness.turn(stalled))
    await entered.wait()

    async def attended() -> dict[str, str]:
        await harness.turn(living)
        return await harness.statuses()

    # PostgreSQL ends the other's transaction; from then on its rows can be had.
    assert await eventually(attended) == {"2026-11-20T08:01:00Z": "published"}
    woken.set()
    with pytest.raises(DatabaseUnavailable):
        await asleep
    await harness.turn(stalled)
    assert len(await harness.messages()) == 1


async def test_old_occurrences_are_pruned_and_young_ones_stay(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T08:00:30")
    for days, name in ((91, "old"), (89, "young")):
        await harness.sql(
            "INSERT INTO taskbell.occurrence (schedule, zone, key, at, status, recorded_at) VALUES"
            " (:name, 'UTC', 'k', now() - make_interval(days => :days), 'missed',"
            " now() - make_interval(days => :days))",
            name=name,
            days=days,
        )
    gate = Gate("postgresql", partial(ping, harness.database), Health())
    await Pruner(harness.database, gate, ended_rows()).prune(asyncio.Event())
    assert [row[0] for row in await harness.occurrences()] == ["young"]
