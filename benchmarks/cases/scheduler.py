"""H: 200 schedules in 40 zones, each due every minute: how late their occurrences are published."""

import asyncio

from benchmarks.dataset import DataSet, words
from benchmarks.installation import Bench
from benchmarks.result import Result, percentile
from taskbell.zones import resolve_zone

SCHEDULES = 200
MINUTES = 2
ZONES = words(
    """
    Africa/Cairo Africa/Johannesburg Africa/Lagos Africa/Nairobi America/Anchorage
    America/Argentina/Buenos_Aires America/Bogota America/Chicago America/Denver America/Halifax America/Lima
    America/Los_Angeles America/Mexico_City America/New_York America/Phoenix America/Santiago America/Sao_Paulo
    America/St_Johns Asia/Bangkok Asia/Dhaka Asia/Dubai Asia/Jakarta Asia/Karachi Asia/Kathmandu Asia/Kolkata
    Asia/Seoul Asia/Shanghai Asia/Singapore Asia/Tehran Asia/Tokyo Australia/Adelaide Australia/Lord_Howe
    Australia/Sydney Europe/Berlin Europe/Istanbul Europe/London Europe/Moscow Pacific/Apia Pacific/Auckland
    Pacific/Honolulu
    """
)
KNOWN = "SELECT count(*) FROM taskbell.schedule_state"
NEXT_MINUTE = "SELECT 60 - extract(second FROM clock_timestamp())::float8"
LATE = """
    SELECT extract(epoch FROM b.published_at - o.at)::float8 AS late
    FROM taskbell.occurrence AS o JOIN taskbell.outbox AS b USING (message_id)
    WHERE o.at > $1 AND o.at <= $2 AND o.status = 'published'
"""


async def scheduler(bench: Bench, size: str | None) -> Result:
    """Measures some whole minutes. The size of the data does not matter here."""
    file = bench.servers.folder / "schedules.toml"
    file.write_text("".join(_entry(number) for number in range(SCHEDULES)))
    async with bench.installation(DataSet.of("S")) as installation, installation.database() as database:
        await installation.start("scheduler", SCHEDULES_FILE=str(file))

        async def known() -> bool:
            return bool(await database.fetchval(KNOWN) == SCHEDULES)

        await installation.until("all schedules to be known", known)
        # Begin in the middle of a minute, so that the occurrences that count are far from both ends.
        await asyncio.sleep((await database.fetchval(NEXT_MINUTE) + 30) % 60)
        begin = await database.fetchval("SELECT clock_timestamp()")
        async with installation.measured() as measured:
            await asyncio.sleep(60 * MINUTES)
        end = await database.fetchval("SELECT clock_timestamp()")
        late = [row["late"] for row in await database.fetch(LATE, begin, end)]
    expected = SCHEDULES * MINUTES
    assert len(late) == expected, f"{len(late)} occurrences were published instead of {expected}"
    seconds = (end - begin).total_seconds()
    return Result(
        case="scheduler",
        what=f"{SCHEDULES} schedules in {len(ZONES)} zones, {MINUTES} min",
        units=expected,
        unit="occurrences",
        seconds=seconds,
        **measured.fields(),
        figures={
            "late at p50, s": percentile(late, 0.5),
            "late at p99, s": percentile(late, 0.99),
            "% of a core": 100 * measured.cpu["scheduler"] / seconds,
        },
    )


def _entry(number: int) -> str:
    zone = ZONES[number % len(ZONES)]
    assert resolve_zone(zone) is not None, zone
    values = {
        "name": f"every-minute-{number}",
        "cron": "* * * * *",
        "timezone": zone,
        "publish": "overdue.due",
        "catch_up": "1h",
    }
    lines = "".join(f'{key} = "{value}"\n' for key, value in values.items())
    return f"[[schedule]]\n{lines}payload = {{ user_ids = [] }}\n"
