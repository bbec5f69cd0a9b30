"""G: what Taskbell uses while there is nothing to do, as three processes and as one."""

import asyncio

from benchmarks.dataset import DataSet
from benchmarks.installation import TOGETHER, Bench
from benchmarks.measure import pss_mb
from benchmarks.result import NOT_THE_WORKERS, Result

LOOKED_AT = 30.0  # seconds that are measured
RESTS = 5.0  # seconds between the start and the measurement
SERVICES = ("scheduler", "notifier", "maintenance")


async def idle(bench: Bench, size: str | None) -> Result:
    """Measures the share of a core and the memory, both ways."""
    name = size or "S"
    figures: dict[str, float] = {}
    peaks: dict[str, float] = {}
    async with bench.installation(DataSet.of(name)) as installation:
        for words, services in (("three processes", SERVICES), ("run all", (TOGETHER,))):
            await installation.start(*services)
            await asyncio.sleep(RESTS)
            async with installation.measured() as measured:
                await asyncio.sleep(LOOKED_AT)
            spent = sum(value for who, value in measured.cpu.items() if who not in NOT_THE_WORKERS)
            figures[f"% of a core, {words}"] = 100 * spent / LOOKED_AT
            figures[f"MB PSS, {words}"] = sum(pss_mb(installation.pid(it)) for it in services)
            figures[f"% of a core, PostgreSQL beside {words}"] = 100 * measured.cpu["postgresql"] / LOOKED_AT
            peaks |= measured.peak_mb
            await installation.stop()
    return Result(
        case="idle",
        what=f"{LOOKED_AT:g} s each",
        units=0,
        unit="",
        seconds=LOOKED_AT,
        peak_mb=peaks,
        others=measured.others,
        figures=figures,
    )
