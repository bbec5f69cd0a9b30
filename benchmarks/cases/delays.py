"""How long a status command takes until its outcome arrives, while a large mailing runs and while none runs."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator

from benchmarks.cases.mailing import COMPLETED
from benchmarks.dataset import OVERDUE, DataSet
from benchmarks.installation import Bench
from benchmarks.result import Result, percentile
from taskbell.client import AsyncClient
from taskbell.contracts import OverdueDue, TaskStatus, UpdateTaskStatus

QUIET_COMMANDS = 400
PAUSE = 0.02  # seconds between two commands
AT_MOST = 60.0  # seconds of the mailing that are measured
CHOSEN = "SELECT id FROM tasks WHERE assignee_id IS NOT NULL AND status = 'pending' ORDER BY md5(id::text) LIMIT 1000"


async def commands_under_mailing(bench: Bench, size: str | None) -> Result:
    """One client sends a command, waits for its outcome, and sends the next one 20 ms later."""
    name = size or "L"
    async with bench.installation(DataSet.of(name)) as installation, installation.database() as database:
        expected = await database.fetchval(OVERDUE)
        commands = _commands([row[0] for row in await database.fetch(CHOSEN)])
        await installation.start("notifier", "maintenance")
        async with installation.client() as client, installation.measured() as measured:
            await client.request(next(commands))  # opens all connections
            quiet = await _delays(client, commands, lambda n: _less_than(n, QUIET_COMMANDS))
            message_id = await client.publish(OverdueDue())
            deadline = time.monotonic() + AT_MOST

            async def runs(_: int) -> bool:
                return time.monotonic() < deadline and not await database.fetchval(COMPLETED, message_id)

            busy = await _delays(client, commands, runs)
            taken = (await installation.sink.taken()).taken
    return Result(
        case="commands-under-mailing",
        what=f"{name}: {len(busy):,} commands while {taken:,} of {expected:,} mails go out",
        units=len(busy),
        unit="commands",
        seconds=sum(busy),
        **measured.fields(),
        figures={
            "p50 without, ms": 1000 * percentile(quiet, 0.5),
            "p99 without, ms": 1000 * percentile(quiet, 0.99),
            "p50 during, ms": 1000 * percentile(busy, 0.5),
            "p99 during, ms": 1000 * percentile(busy, 0.99),
        },
    )


async def _delays(
    client: AsyncClient, commands: Iterator[UpdateTaskStatus], go_on: Callable[[int], Awaitable[bool]]
) -> list[float]:
    found: list[float] = []
    while await go_on(len(found)):
        began = time.monotonic()
        outcome = await client.request(next(commands), timeout=30)
        found.append(time.monotonic() - began)
        assert outcome.state == "done", outcome
        await asyncio.sleep(PAUSE)
    return found


async def _less_than(number: int, limit: int) -> bool:
    return number < limit


def _commands(tasks: list[int]) -> Iterator[UpdateTaskStatus]:
    """Commands that each change something: in every round all tasks get the other one of two statuses."""
    for status in itertools.cycle((TaskStatus.IN_PROGRESS, TaskStatus.PENDING)):
        for task in tasks:
            yield UpdateTaskStatus(task_id=task, new_status=status)
