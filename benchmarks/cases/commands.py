"""B: 20,000 status commands that wait in the queue; each must get its row, its outcome and its event."""

import time

from benchmarks.dataset import DataSet
from benchmarks.installation import Bench
from benchmarks.result import Result
from taskbell.catalogue import message_of
from taskbell.contracts import TaskStatus, UpdateTaskStatus
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher

COMMANDS = 20_000
COPIES = 2
"""The number of processes, one for each core; the tuned peer has four."""
CHOSEN = "SELECT id FROM tasks WHERE status = 'pending' ORDER BY md5(id::text) LIMIT $1"
DONE = """
    SELECT (SELECT count(*) FROM taskbell.command WHERE state = 'done') AS rows,
        (SELECT count(*) FROM tasks WHERE id = ANY($1) AND status = 'in_progress') AS changed,
        (SELECT count(*) FROM taskbell.outbox WHERE routing_key = 'task.status_changed') AS events
"""
UNPUBLISHED = "SELECT count(*) FROM taskbell.outbox WHERE published_at IS NULL"
LAST_CONFIRM = "SELECT extract(epoch FROM clock_timestamp() - max(published_at))::float8 FROM taskbell.outbox"
FIRST_ROW = "SELECT extract(epoch FROM clock_timestamp() - min(finished_at))::float8 FROM taskbell.command"
LAST_ROWS = "SELECT count(*) FROM taskbell.command"


async def commands(bench: Bench, size: str | None) -> Result:
    """The service is paused until all commands are in its queue, so that only its own work is timed.

    Raises:
        AssertionError: a command has no row, did not change its task, or has no event.
    """
    name = size or "M"
    async with bench.installation(DataSet.of(name)) as installation, installation.database() as database:
        number = COMMANDS if name != "S" else COMMANDS // 10
        tasks = [row[0] for row in await database.fetch(CHOSEN, number)]
        assert len(tasks) == number, "too few pending tasks"
        publisher = Publisher(installation.broker_url, name="benchmark", timeout=60)
        await publisher.connect()
        copies = [f"maintenance-{number}" for number in range(1, COPIES + 1)]
        await installation.start(*copies)
        for copy in copies:
            installation.pause(copy)
        try:
            errors = await publisher.publish_all([_message(task) for task in tasks])
            assert not any(errors), errors[0]
        finally:
            for copy in copies:
                installation.resume(copy)
        began = time.monotonic()
        async with installation.measured() as measured:

            async def applied() -> bool:
                return bool(await database.fetchval(LAST_ROWS) >= number)

            async def all_published() -> bool:
                return not await database.fetchval(UNPUBLISHED)

            await installation.until("all commands to be applied", applied)
            await installation.until("all events to be published", all_published)
            seconds = time.monotonic() - began - await database.fetchval(LAST_CONFIRM)
        first = time.monotonic() - began - await database.fetchval(FIRST_ROW)
        found = dict(await database.fetchrow(DONE, tasks) or {})
        assert found == dict.fromkeys(("rows", "changed", "events"), number), found
        await publisher.close()
    return Result(
        case="commands",
        what=f"{name}: {number:,} commands",
        units=number,
        unit="commands",
        seconds=seconds,
        first=max(0.0, first),
        **measured.fields(),
    )


def _message(task: int) -> Outgoing:
    body = UpdateTaskStatus(task_id=task, new_status=TaskStatus.IN_PROGRESS)
    row = message_of(body)
    return Outgoing(row.exchange, row.routing_key, body.to_bytes(), f"bench-{task}", row.routing_key, mandatory=True)
