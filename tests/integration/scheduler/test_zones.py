"""Schedules and zones come and go, in the file and in the web app's tables."""

from tests.integration.scheduler.conftest import MINUTELY, SchedulerHarness, entry
from tests.support.waiting import eventually

from taskbell.health import Health

REMINDERS = entry("reminders", "0 * * * *", timezone="recipient")


def daily(cron: str = "0 8 * * *", zone: str = "UTC") -> str:
    return entry("daily", cron, timezone=zone)


async def zones_in_use(harness: SchedulerHarness) -> set[str]:
    rows = await harness.sql("SELECT zone FROM taskbell.schedule_state WHERE active")
    return {zone for (zone,) in rows}


async def test_unknown_zones_count_as_the_default_and_stop_nobody(harness: SchedulerHarness) -> None:
    for zone in ("Foo/Bar", None, "", "localtime", "../etc/passwd", "Europe", "Asia/Tokyo", "x" * 500):
        await harness.add_user(zone)
    await harness.add_user("America/Lima", active=False)
    await harness.at("2026-11-20T08:30")
    await harness.turn(harness.scheduler(REMINDERS, timezone="Europe/Rome"))
    assert await zones_in_use(harness) == {"Europe/Rome", "Asia/Tokyo"}


async def test_a_zone_without_active_users_fires_no_more_and_starts_again_with_the_next(
    harness: SchedulerHarness,
) -> None:
    user = await harness.add_user("Asia/Tokyo")
    await harness.at("2026-11-20T08:30")
    scheduler = harness.scheduler(REMINDERS)
    await harness.turn(scheduler)
    await harness.sql("UPDATE users SET is_active = false WHERE id = :user", user=user)
    scheduler = harness.scheduler(REMINDERS)  # a fresh one looks at the zones at once
    await harness.turn(scheduler)
    assert await zones_in_use(harness) == set()
    await harness.at("2026-11-20T11:30")
    await harness.turn(scheduler)
    assert await harness.occurrences() == []

    await harness.sql("UPDATE users SET is_active = true WHERE id = :user", user=user)
    scheduler = harness.scheduler(REMINDERS)
    await harness.turn(scheduler)
    assert await harness.occurrences() == [], "what fell due without a user in the zone is nobody's"
    await harness.at("2026-11-20T12:00")
    await harness.turn(scheduler)
    assert await harness.occurrences() == [("reminders", "Asia/Tokyo", "2026-11-20T12:00:00Z", "published")]


async def test_a_changed_expression_starts_at_that_moment(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T07:00")
    await harness.turn(harness.scheduler(daily("0 8 * * *")))
    await harness.at("2026-11-20T10:00")
    changed = harness.scheduler(daily("0 9 * * *"))
    await harness.turn(changed)
    assert await harness.occurrences() == [], "neither 8:00 of the old nor 9:00 of the new"
    await harness.at("2026-11-21T09:00")
    await harness.turn(changed)
    assert await harness.occurrences() == [("daily", "UTC", "2026-11-21T09:00", "published")]


async def test_a_changed_zone_starts_at_that_moment(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T07:00")
    await harness.turn(harness.scheduler(daily(zone="UTC")))
    await harness.at("2026-11-20T10:00")
    changed = harness.scheduler(daily(zone="Europe/Berlin"))
    await harness.turn(changed)
    assert await harness.occurrences() == []
    assert await zones_in_use(harness) == {"Europe/Berlin"}
    await harness.at("2026-11-21T07:00")
    await harness.turn(changed)
    assert await harness.occurrences() == [("daily", "Europe/Berlin", "2026-11-21T08:00", "published")]


async def test_during_an_update_old_and_new_schedulers_lose_nothing_and_double_nothing(
    harness: SchedulerHarness,
) -> None:
    health = Health()
    await harness.at("2026-11-20T07:00")
    old = harness.scheduler(daily("0 8 * * *"), health=health)
    await harness.turn(old)
    new = harness.scheduler(daily("0 9 * * *"))
    await harness.turn(new)
    for moment in ("07:30", "08:00", "08:30", "09:00", "09:30"):
        await harness.at(f"2026-11-20T{moment}")
        await harness.turn(old, new)
        await harness.turn(new, old)
    assert await harness.occurrences() == [("daily", "UTC", "2026-11-20T09:00", "published")]
    condition = health.report()["parts"]["schedules"]
    assert condition["state"] == "degraded"
    assert "daily" in condition["detail"]


async def test_what_another_scheduler_changed_a_moment_ago_is_left_to_it(harness: SchedulerHarness) -> None:
    health = Health()
    await harness.at("2026-11-20T07:59:59.900")
    old = harness.scheduler(daily("0 8 * * *"), health=health, look=3600)  # it looked, and will not again by itself
    await harness.turn(old)
    await harness.turn(harness.scheduler(daily("0 9 * * *")))
    await harness.at("2026-11-20T08:00")

    async def noticed() -> bool:
        await harness.turn(old)
        state: str = health.report()["parts"]["schedules"]["state"]
        return state == "degraded"

    await eventually(noticed)
    assert await harness.occurrences() == []


async def test_a_schedule_that_left_the_file_and_came_back_starts_at_that_moment(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T07:00")
    await harness.turn(harness.scheduler(daily(), MINUTELY))
    await harness.turn(harness.scheduler(MINUTELY))
    await harness.at("2026-11-20T10:00")
    back = harness.scheduler(daily(), MINUTELY)
    await harness.turn(back)
    assert [row for row in await harness.occurrences() if row[0] == "daily"] == []
    await harness.at("2026-11-21T08:00")
    await harness.turn(back)
    assert ("daily", "UTC", "2026-11-21T08:00", "published") in await harness.occurrences()


async def test_a_row_written_by_hand_keeps_its_position(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T10:00")
    await harness.sql(
        "INSERT INTO taskbell.schedule_state (schedule, zone, position) VALUES ('daily', 'UTC', '2026-11-18T00:00Z')"
    )
    await harness.turn(harness.scheduler(daily()))
    assert await harness.statuses() == {
        "2026-11-18T08:00": "missed",
        "2026-11-19T08:00": "missed",
        "2026-11-20T08:00": "published",
    }


async def test_without_the_users_table_other_schedules_go_on(harness: SchedulerHarness) -> None:
    await harness.sql("DROP TABLE users CASCADE")
    health = Health()
    await harness.at("2026-11-20T07:00")
    scheduler = harness.scheduler(REMINDERS, MINUTELY, health=health)
    await harness.turn(scheduler)
    await harness.at("2026-11-20T07:01")
    await harness.turn(scheduler)
    assert [row[0] for row in await harness.occurrences()] == ["tick"]
    assert health.report()["parts"]["recipients"] == {
        "state": "waiting",
        "detail": "cannot read the zones of users (42P01)",
    }


async def test_a_deleted_row_starts_again(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T07:00:30")
    scheduler = harness.scheduler(MINUTELY)
    await harness.turn(scheduler)
    await harness.sql("DELETE FROM taskbell.schedule_state")
    await harness.at("2026-11-20T07:01:30")
    await harness.turn(scheduler)
    await harness.at("2026-11-20T07:02:30")
    await harness.turn(scheduler)
    assert await harness.statuses() == {"2026-11-20T07:02:00Z": "published"}


async def test_a_scheduler_that_has_not_seen_a_new_user_yet_does_not_end_what_another_began_for_them(
    harness: SchedulerHarness,
) -> None:
    await harness.add_user("Europe/Berlin")
    await harness.at("2026-11-20T08:30")
    behind = harness.scheduler(REMINDERS)
    await harness.turn(behind)
    await harness.at("2026-11-20T08:31")
    await harness.add_user("Asia/Tokyo")
    await harness.turn(harness.scheduler(REMINDERS))
    await harness.turn(behind)
    assert await zones_in_use(harness) == {"Europe/Berlin", "Asia/Tokyo"}
    await harness.at("2026-11-20T09:00")
    await harness.turn(behind)
    assert {row[1] for row in await harness.occurrences()} == {"Europe/Berlin", "Asia/Tokyo"}


async def test_a_row_of_a_user_that_cannot_be_read_stops_no_other_schedule(harness: SchedulerHarness) -> None:
    await harness.add_user("Asia/Tokyo")
    await harness.sql("ALTER TABLE users RENAME TO people")
    await harness.sql("CREATE VIEW public.users AS SELECT (1 / 0)::text AS timezone, is_active FROM people")
    health = Health()
    await harness.at("2026-11-20T07:00")
    scheduler = harness.scheduler(REMINDERS, MINUTELY, health=health)
    await harness.turn(scheduler)
    await harness.at("2026-11-20T07:01")
    await harness.turn(scheduler)
    assert [row[0] for row in await harness.occurrences()] == ["tick"]
    assert health.report()["parts"]["recipients"]["detail"] == "cannot read the zones of users (22012)"


async def test_a_locked_table_of_users_stops_no_other_schedule(harness: SchedulerHarness) -> None:
    health = Health()
    await harness.at("2026-11-20T07:00")
    scheduler = harness.scheduler(REMINDERS, MINUTELY, health=health)
    async with harness.database.transaction() as transaction:
        await transaction.execute("LOCK TABLE public.users IN ACCESS EXCLUSIVE MODE")
        await harness.turn(scheduler)
        await harness.at("2026-11-20T07:01")
        await harness.turn(scheduler)
    assert [row[0] for row in await harness.occurrences()] == ["tick"]
    assert health.report()["parts"]["recipients"]["detail"] == "cannot read the zones of users (55P03)"
