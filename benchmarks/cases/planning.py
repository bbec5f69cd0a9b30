"""E: planning a mailing for everybody while the mail server is away, so that nothing but planning happens."""

import time

from benchmarks.dataset import OVERDUE, DataSet
from benchmarks.installation import Bench
from benchmarks.result import Result
from taskbell.contracts import OverdueDue
from taskbell_devstack.ports import pick_free

FEW = 10_000
MANY = {"S": 10_000, "M": 100_000, "L": 1_000_000, "XL": 1_000_000}
STANDSTILL = 30.0  # seconds without progress after which the case ends and reports how far planning came
PLANNED = """
    SELECT planned, cursor, planned_at IS NOT NULL AS over,
        extract(epoch FROM coalesce(planned_at, now()) - inserted_at)::float8 AS seconds
    FROM taskbell.mailing WHERE message_id = $1
"""


async def planning(bench: Bench, size: str | None) -> Result:
    """Plans for 10,000 users and for a million. The rate is that of the larger mailing."""
    many = MANY[size or "L"]
    few = await _plan(bench, FEW)
    if many == FEW:
        return few
    result = await _plan(bench, many)
    more = max(result.peak_mb[name] - few.peak_mb[name] for name in result.peak_mb)
    figures = {**result.figures, "MB more than for 10,000": more, "recipients/s of 10,000": few.rate}
    return Result(**{**vars(result), "figures": figures})


async def _plan(bench: Bench, users: int) -> Result:
    nowhere = str(pick_free())
    async with bench.installation(DataSet.crowd_of(users)) as installation, installation.database() as database:
        expected = await database.fetchval(OVERDUE)
        await installation.start("scheduler", "notifier", "maintenance", MAIL_PORT=nowhere, MAIL_TIMEOUT="2")
        async with installation.client() as client, installation.measured() as measured:
            message_id = await client.publish(OverdueDue())
            moved, cursor = time.monotonic(), -1

            async def over() -> bool:
                nonlocal moved, cursor
                row = await database.fetchrow(PLANNED, message_id)
                if row is not None and row["cursor"] != cursor:
                    moved, cursor = time.monotonic(), row["cursor"]
                return (row is not None and row["over"]) or time.monotonic() - moved > STANDSTILL

            await installation.until("the plan", over)
        row = await database.fetchrow(PLANNED, message_id)
        assert row is not None
        assert row["planned"] == expected or not row["over"], f"{row['planned']} were planned instead of {expected}"
        waiting = await database.fetchval("SELECT count(*) FROM taskbell.outbox WHERE published_at IS NULL")
    seconds = row["seconds"] if row["over"] else row["seconds"] - STANDSTILL
    return Result(
        case="planning",
        what=f"{users:,} users" + ("" if row["over"] else f", stopped at {row['planned']:,}"),
        units=row["planned"],
        unit="recipients",
        seconds=seconds,
        **measured.fields(),
        figures={"messages that wait for the broker": waiting},
    )
