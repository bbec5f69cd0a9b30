"""D: the daily report over all tasks, with all its figures."""

import time

from benchmarks.dataset import DataSet
from benchmarks.installation import Bench
from benchmarks.result import Result, median
from taskbell.contracts import GenerateTaskReport

TIMES = 5


async def report(bench: Bench, size: str | None) -> Result:
    """The time from the command to its outcome, as the median of several reports."""
    name = size or "L"
    async with bench.installation(DataSet.of(name)) as installation, installation.database() as database:
        tasks = await database.fetchval("SELECT count(*) FROM tasks")
        await installation.start("maintenance")
        seconds = []
        async with installation.client() as client:
            await client.request(GenerateTaskReport(), timeout=300)  # opens all connections
            async with installation.measured() as measured:
                for _ in range(TIMES):
                    began = time.monotonic()
                    outcome = await client.request(GenerateTaskReport(), timeout=300)
                    seconds.append(time.monotonic() - began)
                    assert outcome.state == "done", outcome
    return Result(
        case="report",
        what=f"{name}: {tasks:,} tasks",
        units=1,
        unit="reports",
        seconds=median(seconds),
        **{**measured.fields(), "cpu": {name: spent / TIMES for name, spent in measured.cpu.items()}},
        figures={"slowest, s": max(seconds), "fastest, s": min(seconds)},
    )
