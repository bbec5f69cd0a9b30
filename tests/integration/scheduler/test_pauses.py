"""Pausing and resuming, by the commands' SQL and by hand."""

from tests.integration.scheduler.conftest import World, entry
from tests.support.waiting import eventually

from taskbell_scheduler.repository import operating

HOURLY = entry("hourly", "0 * * * *", catch_up="1h")
EVERYWHERE = entry("hourly", "0 * * * *", timezone="recipient", catch_up="1h")


async def pause(world: World, zone: str | None = None, note: str | None = None) -> None:
    async with world.database.transaction() as transaction:
        await operating.pause(transaction, "hourly", zone, note)


async def resume(world: World, zone: str | None = None) -> list[str]:
    async with world.database.transaction() as transaction:
        return list(await operating.resume(transaction, "hourly", zone))


async def test_a_pause_holds_from_its_moment_to_that_of_its_end(world: World) -> None:
    await world.at("2026-11-20T07:30")
    scheduler = world.scheduler(HOURLY)
    await world.turn(scheduler)
    await pause(world, note="mail server moves")
    for moment in ("08:00", "09:00", "09:30"):
        await world.at(f"2026-11-20T{moment}")
        await world.turn(scheduler)
    await resume(world)
    await world.turn(scheduler)
    await world.at("2026-11-20T10:00")
    await world.turn(scheduler)
    assert await world.statuses() == {
        "2026-11-20T08:00:00Z": "paused",
        "2026-11-20T09:00:00Z": "paused",
        "2026-11-20T10:00:00Z": "published",
    }
    reasons = await world.sql("SELECT DISTINCT reason FROM taskbell.occurrence WHERE status = 'paused'")
    assert reasons == [("paused: mail server moves",)]
    left = await world.sql("SELECT count(*) FROM taskbell.schedule_state WHERE paused OR paused_at IS NOT NULL")
    assert left == [(0,)], "no trace of the pause is left to be mistaken for another"


async def test_a_pause_that_no_scheduler_saw_is_recorded_all_the_same(world: World) -> None:
    await world.at("2026-11-20T07:30")
    await world.turn(world.scheduler(HOURLY))
    await world.at("2026-11-20T08:30")
    await pause(world)
    await world.at("2026-11-20T10:30")
    await resume(world)
    await world.at("2026-11-20T12:30")
    await world.turn(world.scheduler(HOURLY))
    assert await world.statuses() == {
        "2026-11-20T08:00:00Z": "missed",
        "2026-11-20T09:00:00Z": "paused",
        "2026-11-20T10:00:00Z": "paused",
        "2026-11-20T11:00:00Z": "missed",
        "2026-11-20T12:00:00Z": "published",
    }


async def test_paused_and_resumed_by_hand(world: World) -> None:
    await world.at("2026-11-20T07:30")
    scheduler = world.scheduler(HOURLY)
    await world.turn(scheduler)
    await world.sql("UPDATE taskbell.schedule_state SET paused = true")
    for moment in ("07:31", "08:00", "08:30"):
        await world.at(f"2026-11-20T{moment}")
        await world.turn(scheduler)
    await world.sql("UPDATE taskbell.schedule_state SET paused = false")
    await world.turn(scheduler)
    await world.at("2026-11-20T09:00")
    await world.turn(scheduler)
    assert await world.statuses() == {"2026-11-20T08:00:00Z": "paused", "2026-11-20T09:00:00Z": "published"}


async def test_a_pause_by_hand_is_recorded_though_nobody_ran_at_its_end(world: World) -> None:
    await world.at("2026-11-20T07:30")
    scheduler = world.scheduler(HOURLY)
    await world.turn(scheduler)
    await world.sql("UPDATE taskbell.schedule_state SET paused = true")
    await world.turn(scheduler)
    await world.at("2026-11-20T08:30")
    await world.sql("UPDATE taskbell.schedule_state SET paused = false")
    await world.at("2026-11-20T08:40")
    await world.turn(world.scheduler(HOURLY))
    assert await world.statuses() == {"2026-11-20T08:00:00Z": "paused"}


async def test_a_pause_just_before_the_moment_is_heeded(world: World) -> None:
    await world.at("2026-11-20T07:59:59.900")
    scheduler = world.scheduler(HOURLY, look=3600)  # it will not look at the table before the moment comes
    await world.turn(scheduler)
    await pause(world)
    await world.at("2026-11-20T08:00")

    async def attended() -> dict[str, str]:
        await world.turn(scheduler)
        return await world.statuses()

    assert await eventually(attended) == {"2026-11-20T08:00:00Z": "paused"}


async def test_one_zone_is_paused_and_the_other_is_not(world: World) -> None:
    for zone in ("Asia/Tokyo", "Europe/Berlin"):
        await world.add_user(zone)
    await world.at("2026-11-20T07:30")
    scheduler = world.scheduler(EVERYWHERE)
    await world.turn(scheduler)
    await pause(world, "Asia/Tokyo")
    await world.at("2026-11-20T08:00")
    await world.turn(scheduler)
    assert {zone: status for _, zone, _, status in await world.occurrences()} == {
        "Asia/Tokyo": "paused",
        "Europe/Berlin": "published",
    }
    assert await resume(world, "Asia/Tokyo") == ["Asia/Tokyo"]


async def test_a_paused_schedule_is_paused_for_zones_that_come_later_too(world: World) -> None:
    await world.add_user("Asia/Tokyo")
    await world.at("2026-11-20T07:30")
    await world.turn(world.scheduler(EVERYWHERE))
    await pause(world)
    await world.add_user("Europe/Berlin")
    scheduler = world.scheduler(EVERYWHERE)
    await world.turn(scheduler)
    await world.at("2026-11-20T08:00")
    await world.turn(scheduler)
    assert {zone: status for _, zone, _, status in await world.occurrences()} == {
        "Asia/Tokyo": "paused",
        "Europe/Berlin": "paused",
    }
    await world.at("2026-11-20T08:30")
    assert await resume(world) == ["*"]
    await world.turn(scheduler)
    await world.turn(scheduler)
    await world.at("2026-11-20T09:00")
    await world.turn(scheduler)
    assert [status for _, _, key, status in await world.occurrences() if "T09" in key] == ["published"] * 2
    left = await world.sql("SELECT count(*) FROM taskbell.schedule_state WHERE paused_at IS NOT NULL")
    assert left == [(0,)]


async def test_a_zone_can_be_paused_before_anybody_has_it(world: World) -> None:
    await world.at("2026-11-20T07:30")
    await pause(world, "Asia/Tokyo")
    await world.add_user("Asia/Tokyo")
    scheduler = world.scheduler(EVERYWHERE)
    await world.turn(scheduler)
    await world.at("2026-11-20T08:00")
    await world.turn(scheduler)
    assert [status for *_, status in await world.occurrences()] == ["paused"]


async def test_a_changed_expression_stays_paused(world: World) -> None:
    await world.at("2026-11-20T07:30")
    await world.turn(world.scheduler(HOURLY))
    await world.sql("UPDATE taskbell.schedule_state SET paused = true")
    changed = world.scheduler(HOURLY.replace("0 *", "15 *"))
    await world.turn(changed)
    await world.at("2026-11-20T08:15")
    await world.turn(changed)
    assert await world.statuses() == {"2026-11-20T08:15:00Z": "paused"}
