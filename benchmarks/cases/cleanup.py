"""C: a cleanup moves old completed tasks from the app's table to the archive."""

import time

from benchmarks.dataset import DataSet
from benchmarks.installation import Bench
from benchmarks.result import Result
from taskbell.contracts import CleanupCompletedTasks

LEFT = "SELECT count(*) FROM tasks WHERE status = 'done' AND completed_at < now() - interval '31 days'"
ARCHIVED = "SELECT count(*) FROM taskbell.archived_task"


async def cleanup(bench: Bench, size: str | None) -> Result:
    """The time from the command to its outcome.

    Raises:
        AssertionError: a task is neither in its table nor in the archive, or an old task is left.
    """
    name = size or "L"
    async with bench.installation(DataSet.of(name)) as installation, installation.database() as database:
        before = await database.fetchval("SELECT count(*) FROM tasks")
        await installation.start("maintenance")
        async with installation.client() as client, installation.measured() as measured:
            began = time.monotonic()
            outcome = await client.request(CleanupCompletedTasks(), timeout=900)
            seconds = time.monotonic() - began
        assert outcome.state == "done", outcome
        archived = await database.fetchval(ARCHIVED)
        assert archived + await database.fetchval("SELECT count(*) FROM tasks") == before
        assert not await database.fetchval(LEFT)
    return Result(
        case="cleanup",
        what=f"{name}: {archived:,} of {before:,} tasks",
        units=archived,
        unit="tasks",
        seconds=seconds,
        **measured.fields(),
    )
