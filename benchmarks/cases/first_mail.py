"""F: the time from the event until the mail server has taken the first mail."""

import asyncio
import time

from benchmarks.cases.mailing import COMPLETED
from benchmarks.dataset import OVERDUE, DataSet
from benchmarks.installation import Bench
from benchmarks.result import Result, median
from taskbell.contracts import OverdueDue

TIMES = 7
QUIET = 0.5  # seconds between two events
ANEW = "DELETE FROM taskbell.delivery WHERE created_at > now() - interval '1 hour'"


async def first_mail(bench: Bench, size: str | None) -> Result:
    """The median of several mailings to everybody. Each starts with a ledger that does not contain the others."""
    name = size or "S"
    async with bench.installation(DataSet.of(name)) as installation, installation.database() as database:
        expected = await database.fetchval(OVERDUE)
        await installation.start("notifier")
        firsts = []
        async with installation.client() as client, installation.measured() as measured:
            for _ in range(TIMES):
                began = time.monotonic()
                message_id = await client.publish(OverdueDue())

                async def completed(message_id: str = message_id) -> bool:
                    return bool(await database.fetchval(COMPLETED, message_id))

                await installation.until("the mailing's end", completed)
                taken = await installation.sink.taken()
                assert taken.taken == expected, f"{taken.taken} mails were taken instead of {expected}"
                assert taken.first is not None
                firsts.append(taken.first - began)
                await installation.sink.reset()
                await database.execute(ANEW)
                await asyncio.sleep(QUIET)
    return Result(
        case="first-mail",
        what=f"{name}: {TIMES} mailings",
        units=TIMES,
        unit="mailings",
        seconds=sum(firsts),
        first=median(firsts),
        **{**measured.fields(), "cpu": {}},
        figures={"fastest, s": min(firsts), "slowest, s": max(firsts)},
    )
