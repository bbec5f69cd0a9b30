"""Schedules and zones come and go, in the file and in the web app's tables."""

from tests.integration.scheduler.conftest import MINUTELY, World, entry
from tests.support.waiting import eventually

from taskbell.health import Health

REMINDERS = entry("reminders", "0 * * * *", timezone="recipient")


def daily(cron: str = "0 8 * * *", zone: str = "UTC") -> str:
    return entry("daily", cron, timezone=zone)


async def zones_in_use(world: World) -> set[str]:
    rows = await world.sql("SELECT zone FROM taskbell.schedule_state WHERE active")
    return {zone for (zone,) in rows}


async def test_unknown_zones_count_as_the_default_and_stop_nobody(world: World) -> None:
    for zone in ("Foo/Bar", None, "", "localtime", "../etc/passwd", "Europe", "Asia/Tokyo", "x" * 500):
        await world.add_user(zone)
    await world.add_user("America/Lima", active=False)
    await world.at("2026-11-20T08:30")
    await world.turn(world.scheduler(REMINDERS, timezone="Europe/Rome"))
    assert await zones_in_use(world) == {"Europe/Rome", "Asia/Tokyo"}


async def test_a_zone_without_active_users_fires_no_more_and_starts_again_with_the_next(world: World) -> None:
    user = await world.add_user("Asia/Tokyo")
    await world.at("2026-11-20T08:30")
    scheduler = world.scheduler(REMINDERS)
    await world.turn(scheduler)
    await world.sql("UPDATE users SET is_active = false WHERE id = :user", user=user)
    scheduler = world.scheduler(REMINDERS)  # a fresh one looks at the zones at once
    await world.turn(scheduler)
    assert await zones_in_use(world) == set()
    await world.at("2026-11-20T11:30")
    await world.turn(scheduler)
    assert await world.occurrences() == []

    await world.sql("UPDATE users SET is_active = true WHERE id = :user", user=user)
    scheduler = world.scheduler(REMINDERS)
    await world.turn(scheduler)
    assert await world.occurrences() == [], "what fell due without a user in the zone is nobody's"
    await world.at("2026-11-20T12:00")
    await world.turn(scheduler)
    assert await world.occurrences() == [("reminders", "Asia/Tokyo", "2026-11-20T12:00:00Z", "published")]


async def test_a_changed_expression_starts_at_that_moment(world: World) -> None:
    await world.at("2026-11-20T07:00")
    await world.turn(world.scheduler(daily("0 8 * * *")))
    await world.at("2026-11-20T10:00")
    changed = world.scheduler(daily("0 9 * * *"))
    await world.turn(changed)
    assert await world.occurrences() == [], "neither 8:00 of the old nor 9:00 of the new"
    await world.at("2026-11-21T09:00")
    await world.turn(changed)
    assert await world.occurrences() == [("daily", "UTC", "2026-11-21T09:00", "published")]


async def test_a_changed_zone_starts_at_that_moment(world: World) -> None:
    await world.at("2026-11-20T07:00")
    await world.turn(world.scheduler(daily(zone="UTC")))
    await world.at("2026-11-20T10:00")
    changed = world.scheduler(daily(zone="Europe/Berlin"))
    await world.turn(changed)
    assert await world.occurrences() == []
    assert await zones_in_use(world) == {"Europe/Berlin"}
    await world.at("2026-11-21T07:00")
    await world.turn(changed)
    assert await world.occurrences() == [("daily", "Europe/Berlin", "2026-11-21T08:00", "published")]


async def test_during_an_update_old_and_new_schedulers_lose_nothing_and_double_nothing(world: World) -> None:
    health = Health()
    await world.at("2026-11-20T07:00")
    old = world.scheduler(daily("0 8 * * *"), health=health)
    await world.turn(old)
    new = world.scheduler(daily("0 9 * * *"))
    await world.turn(new)
    for moment in ("07:30", "08:00", "08:30", "09:00", "09:30"):
        await world.at(f"2026-11-20T{moment}")
        await world.turn(old, new)
        await world.turn(new, old)
    assert await world.occurrences() == [("daily", "UTC", "2026-11-20T09:00", "published")]
    condition = health.report()["parts"]["schedules"]
    assert condition["state"] == "degraded"
    assert "daily" in condition["detail"]


async def test_what_another_scheduler_changed_a_moment_ago_is_left_to_it(world: World) -> None:
    health = Health()
    await world.at("2026-11-20T07:59:59.900")
    old = world.scheduler(daily("0 8 * * *"), health=health, look=3600)  # it looked, and will not again by itself
    await world.turn(old)
    await world.turn(world.scheduler(daily("0 9 * * *")))
    await world.at("2026-11-20T08:00")

    async def noticed() -> bool:
        await world.turn(old)
        state: str = health.report()["parts"]["schedules"]["state"]
        return state == "degraded"

    await eventually(noticed)
    assert await world.occurrences() == []


async def test_a_schedule_that_left_the_file_and_came_back_starts_at_that_moment(world: World) -> None:
    await world.at("2026-11-20T07:00")
    await world.turn(world.scheduler(daily(), MINUTELY))
    await world.turn(world.scheduler(MINUTELY))
    await world.at("2026-11-20T10:00")
    back = world.scheduler(daily(), MINUTELY)
    await world.turn(back)
    assert [row for row in await world.occurrences() if row[0] == "daily"] == []
    await world.at("2026-11-21T08:00")
    await world.turn(back)
    assert ("daily", "UTC", "2026-11-21T08:00", "published") in await world.occurrences()


async def test_a_row_written_by_hand_keeps_its_position(world: World) -> None:
    await world.at("2026-11-20T10:00")
    await world.sql(
        "INSERT INTO taskbell.schedule_state (schedule, zone, position) VALUES ('daily', 'UTC', '2026-11-18T00:00Z')"
    )
    await world.turn(world.scheduler(daily()))
    assert await world.statuses() == {
        "2026-11-18T08:00": "missed",
        "2026-11-19T08:00": "missed",
        "2026-11-20T08:00": "published",
    }


async def test_without_the_users_table_other_schedules_go_on(world: World) -> None:
    await world.sql("DROP TABLE users CASCADE")
    health = Health()
    await world.at("2026-11-20T07:00")
    scheduler = world.scheduler(REMINDERS, MINUTELY, health=health)
    await world.turn(scheduler)
    await world.at("2026-11-20T07:01")
    await world.turn(scheduler)
    assert [row[0] for row in await world.occurrences()] == ["tick"]
    assert health.report()["parts"]["recipients"] == {
        "state": "waiting",
        "detail": "cannot read the zones of users (42P01)",
    }


async def test_a_deleted_row_starts_again(world: World) -> None:
    await world.at("2026-11-20T07:00:30")
    scheduler = world.scheduler(MINUTELY)
    await world.turn(scheduler)
    await world.sql("DELETE FROM taskbell.schedule_state")
    await world.at("2026-11-20T07:01:30")
    await world.turn(scheduler)
    await world.at("2026-11-20T07:02:30")
    await world.turn(scheduler)
    assert await world.statuses() == {"2026-11-20T07:02:00Z": "published"}


async def test_a_scheduler_that_has_not_seen_a_new_user_yet_does_not_end_what_another_began_for_them(
    world: World,
) -> None:
    await world.add_user("Europe/Berlin")
    await world.at("2026-11-20T08:30")
    behind = world.scheduler(REMINDERS)
    await world.turn(behind)
    await world.at("2026-11-20T08:31")
    await world.add_user("Asia/Tokyo")
    await world.turn(world.scheduler(REMINDERS))
    await world.turn(behind)
    assert await zones_in_use(world) == {"Europe/Berlin", "Asia/Tokyo"}
    await world.at("2026-11-20T09:00")
    await world.turn(behind)
    assert {row[1] for row in await world.occurrences()} == {"Europe/Berlin", "Asia/Tokyo"}


async def test_a_row_of_a_user_that_cannot_be_read_stops_no_other_schedule(world: World) -> None:
    await world.add_user("Asia/Tokyo")
    await world.sql("ALTER TABLE users RENAME TO people")
    await world.sql("CREATE VIEW public.users AS SELECT (1 / 0)::text AS timezone, is_active FROM people")
    health = Health()
    await world.at("2026-11-20T07:00")
    scheduler = world.scheduler(REMINDERS, MINUTELY, health=health)
    await world.turn(scheduler)
    await world.at("2026-11-20T07:01")
    await world.turn(scheduler)
    assert [row[0] for row in await world.occurrences()] == ["tick"]
    assert health.report()["parts"]["recipients"]["detail"] == "cannot read the zones of users (22012)"


async def test_a_locked_table_of_users_stops_no_other_schedule(world: World) -> None:
    health = Health()
    await world.at("2026-11-20T07:00")
    scheduler = world.scheduler(REMINDERS, MINUTELY, health=health)
    async with world.database.transaction() as transaction:
        await transaction.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        await world.turn(scheduler)
        await world.at("2026-11-20T07:01")
        await world.turn(scheduler)
    assert [row[0] for row in await world.occurrences()] == ["tick"]
    assert health.report()["parts"]["recipients"]["detail"] == "cannot read the zones of users (55P03)"
