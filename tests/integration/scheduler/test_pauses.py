"""Pausing and resuming, by the commands' SQL and by hand."""

from tests.integration.scheduler.conftest import SchedulerHarness, entry
from tests.support.waiting import eventually

from taskbell_scheduler.repository import operating

HOURLY = entry("hourly", "0 * * * *", catch_up="1h")
EVERYWHERE = entry("hourly", "0 * * * *", timezone="recipient", catch_up="1h")


async def pause(harness: SchedulerHarness, zone: str | None = None, note: str | None = None) -> None:
    async with harness.database.transaction() as transaction:
        await operating.pause(transaction, "hourly", zone, note)


async def resume(harness: SchedulerHarness, zone: str | None = None) -> list[str]:
    async with harness.database.transaction() as transaction:
        return list(await operating.resume(transaction, "hourly", zone))


async def test_a_pause_holds_from_its_moment_to_that_of_its_end(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T07:30")
    scheduler = harness.scheduler(HOURLY)
    await harness.turn(scheduler)
    await pause(harness, note="mail server moves")
    for moment in ("08:00", "09:00", "09:30"):
        await harness.at(f"2026-11-20T{moment}")
        await harness.turn(scheduler)
    await resume(harness)
    await harness.turn(scheduler)
    await harness.at("2026-11-20T10:00")
    await harness.turn(scheduler)
    assert await harness.statuses() == {
        "2026-11-20T08:00:00Z": "paused",
        "2026-11-20T09:00:00Z": "paused",
        "2026-11-20T10:00:00Z": "published",
    }
    reasons = await harness.sql("SELECT DISTINCT reason FROM taskbell.occurrence WHERE status = 'paused'")
    assert reasons == [("paused: mail server moves",)]
    left = await harness.sql("SELECT count(*) FROM taskbell.schedule_state WHERE paused OR paused_at IS NOT NULL")
    assert left == [(0,)], "no trace of the pause is left to be mistaken for another"


async def test_a_pause_that_no_scheduler_saw_is_recorded_all_the_same(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T07:30")
    await harness.turn(harness.scheduler(HOURLY))
    await harness.at("2026-11-20T08:30")
    await pause(harness)
    await harness.at("2026-11-20T10:30")
    await resume(harness)
    await harness.at("2026-11-20T12:30")
    await harness.turn(harness.scheduler(HOURLY))
    assert await harness.statuses() == {
        "2026-11-20T08:00:00Z": "missed",
        "2026-11-20T09:00:00Z": "paused",
        "2026-11-20T10:00:00Z": "paused",
        "2026-11-20T11:00:00Z": "missed",
        "2026-11-20T12:00:00Z": "published",
    }


async def test_paused_and_resumed_by_hand(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T07:30")
    scheduler = harness.scheduler(HOURLY)
    await harness.turn(scheduler)
    await harness.sql("UPDATE taskbell.schedule_state SET paused = true")
    for moment in ("07:31", "08:00", "08:30"):
        await harness.at(f"2026-11-20T{moment}")
        await harness.turn(scheduler)
    await harness.sql("UPDATE taskbell.schedule_state SET paused = false")
    await harness.turn(scheduler)
    await harness.at("2026-11-20T09:00")
    await harness.turn(scheduler)
    assert await harness.statuses() == {"2026-11-20T08:00:00Z": "paused", "2026-11-20T09:00:00Z": "published"}


async def test_a_pause_by_hand_is_recorded_though_nobody_ran_at_its_end(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T07:30")
    scheduler = harness.scheduler(HOURLY)
    await harness.turn(scheduler)
    await harness.sql("UPDATE taskbell.schedule_state SET paused = true")
    await harness.turn(scheduler)
    await harness.at("2026-11-20T08:30")
    await harness.sql("UPDATE taskbell.schedule_state SET paused = false")
    await harness.at("2026-11-20T08:40")
    await harness.turn(harness.scheduler(HOURLY))
    assert await harness.statuses() == {"2026-11-20T08:00:00Z": "paused"}


async def test_a_pause_just_before_the_moment_is_heeded(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T07:59:59.900")
    scheduler = harness.scheduler(HOURLY, look=3600)  # it will not look at the table before the moment comes
    await harness.turn(scheduler)
    await pause(harness)
    await harness.at("2026-11-20T08:00")

    async def attended() -> dict[str, str]:
        await harness.turn(scheduler)
        return await harness.statuses()

    assert await eventually(attended) == {"2026-11-20T08:00:00Z": "paused"}


async def test_one_zone_is_paused_and_the_other_is_not(harness: SchedulerHarness) -> None:
    for zone in ("Asia/Tokyo", "Europe/Berlin"):
        await harness.add_user(zone)
    await harness.at("2026-11-20T07:30")
    scheduler = harness.scheduler(EVERYWHERE)
    await harness.turn(scheduler)
    await pause(harness, "Asia/Tokyo")
    await harness.at("2026-11-20T08:00")
    await harness.turn(scheduler)
    assert {zone: status for _, zone, _, status in await harness.occurrences()} == {
        "Asia/Tokyo": "paused",
        "Europe/Berlin": "published",
    }
    assert await resume(harness, "Asia/Tokyo") == ["Asia/Tokyo"]


async def test_a_paused_schedule_is_paused_for_zones_that_come_later_too(harness: SchedulerHarness) -> None:
    await harness.add_user("Asia/Tokyo")
    await harness.at("2026-11-20T07:30")
    await harness.turn(harness.scheduler(EVERYWHERE))
    await pause(harness)
    await harness.add_user("Europe/Berlin")
    scheduler = harness.scheduler(EVERYWHERE)
    await harness.turn(scheduler)
    await harness.at("2026-11-20T08:00")
    await harness.turn(scheduler)
    assert {zone: status for _, zone, _, status in await harness.occurrences()} == {
        "Asia/Tokyo": "paused",
        "Europe/Berlin": "paused",
    }
    await harness.at("2026-11-20T08:30")
    assert await resume(harness) == ["*"]
    await harness.turn(scheduler)
    await harness.turn(scheduler)
    await harness.at("2026-11-20T09:00")
    await harness.turn(scheduler)
    assert [status for _, _, key, status in await harness.occurrences() if "T09" in key] == ["published"] * 2
    left = await harness.sql("SELECT count(*) FROM taskbell.schedule_state WHERE paused_at IS NOT NULL")
    assert left == [(0,)]


async def test_a_zone_can_be_paused_before_anybody_has_it(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T07:30")
    await pause(harness, "Asia/Tokyo")
    await harness.add_user("Asia/Tokyo")
    scheduler = harness.scheduler(EVERYWHERE)
    await harness.turn(scheduler)
    await harness.at("2026-11-20T08:00")
    await harness.turn(scheduler)
    assert [status for *_, status in await harness.occurrences()] == ["paused"]


async def test_a_changed_expression_stays_paused(harness: SchedulerHarness) -> None:
    await harness.at("2026-11-20T07:30")
    await harness.turn(harness.scheduler(HOURLY))
    await harness.sql("UPDATE taskbell.schedule_state SET paused = true")
    changed = harness.scheduler(HOURLY.replace("0 *", "15 *"))
    await harness.turn(changed)
    await harness.at("2026-11-20T08:15")
    await harness.turn(changed)
    assert await harness.statuses() == {"2026-11-20T08:15:00Z": "paused"}
