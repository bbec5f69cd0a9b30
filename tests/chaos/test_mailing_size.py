"""A mailing to a million users: planned in the memory of a small one, and gone on with by whoever comes after a kill.

The mail server is away, so that planning alone is under test, and all messages of the mailing lie in their queue.
"""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import asyncpg

from taskbell_devstack.ports import pick_free
from taskbell_notifier.planning.planner import BACKLOG, FIRST_PAGE, PAGE
from taskbell_notifier.repository.planning import BATCH
from tests.chaos.support.app_tables import AppTables
from tests.chaos.support.figures import Figures
from tests.chaos.support.plan import Plan
from tests.chaos.support.processes import Processes, ServiceProcess
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

AT_WORK = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'taskbell notifier'
"""
LIMIT = 240.0  # seconds for the whole mailing to be planned
QUEUE = "notifier.send_batch"
MIB = 1024  # kB

USERS = """
    INSERT INTO users (id, name, email, timezone, is_active)
    SELECT n, 'Person ' || n, 'person' || n || '@example.org', 'UTC', true FROM generate_series($1::int, $2::int) AS n
"""
TASKS = """
    INSERT INTO tasks (id, title, status, priority, due_date, assignee_id)
    SELECT n, 'Late ' || n, 'pending', 'high', now() - interval '3 days', n FROM generate_series($1::int, $2::int) AS n
"""


async def test_a_mailing_to_a_million_users_takes_no_more_memory_than_a_small_one_and_survives_kills(
    plan: Plan, seed: int, figures: Figures, database_url: str, vhost: Vhost
) -> None:
    rng = random.Random(seed)
    few, many, kills = plan.pick(quick=(2_000, 20_000, 1), full=(10_000, 1_000_000, 3))
    tables = AppTables(database_url)
    environment = {
        "DATABASE_URL": database_url,
        "BROKER_URL": vhost.url,
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": str(pick_free()),  # nobody listens there
        "MAIL_DEFAULT_SENDER": "Taskbell <taskbell@example.org>",
        "SECRET_KEY": "a secret of the tests",
    }
    async with Processes(environment) as processes:
        (small,), (notifier,) = processes.add("notifier"), processes.add("notifier")
        await populate(tables, 1, few)
        await small.start()
        await mailing(tables, "weekly", datetime.now(UTC))
        await eventually(lambda: is_planned(tables, "weekly"), limit=LIMIT)
        small_peak = peak(small)
        await small.stop()

        await populate(tables, few + 1, many)
        # All in the first part: the last process then plans most of it, and has the time to grow.
        stops = sorted(rng.sample(range(FIRST_PAGE, many * 4 // 10), kills))
        at, peaks, before = datetime.now(UTC), [], 0
        async with Watch(vhost, tables) as watch:
            await mailing(tables, "overdue", at)
            for user in stops:
                async with held_up(database_url, "overdue", at, user):
                    await notifier.start()
                    await eventually(lambda: a_page_waits(tables), limit=LIMIT, what=f"the page of {user}, SEED={seed}")
                    peaks.append(peak(notifier))
                    await notifier.kill()
                await eventually(lambda: nobody_is_at_work(tables), limit=60)
                planned = await tables.number("SELECT planned FROM taskbell.mailing WHERE kind = 'overdue'")
                assert before <= planned < user, f"a page that was cut off left something behind, SEED={seed}"
                before = planned
            await notifier.start()
            await eventually(lambda: is_planned(tables, "overdue"), limit=LIMIT)
            peaks.append(peak(notifier))
            await eventually(lambda: nothing_waits(tables), limit=LIMIT)
        await notifier.stop()
    await everybody_has_one_row(tables, many)
    row = "mailing to a million users"
    figures.note(row, "users", many)
    figures.note(row, "kills while planning", notifier.kills, at_least=kills)
    figures.note(row, f"peak memory of a notifier, MiB (with {few} users {small_peak:.0f})", max(peaks), at_most=150)
    figures.note(row, "recipients planned a second by one notifier", await pace(tables, before))
    figures.note(row, "messages in the broker's queue, at most", watch.queue, at_most=1.1 * (few + many) / BATCH)
    figures.note(row, "messages that waited for the broker, at most", watch.outbox, at_most=BACKLOG + PAGE / BATCH)
    assert max(peaks) < small_peak + 40, f"memory grows with the users: {small_peak:.0f} -> {max(peaks):.0f} MiB"


class Watch:
    """The most messages that were seen in the broker's queue, and in the outbox."""

    def __init__(self, vhost: Vhost, tables: AppTables) -> None:
        self.queue = self.outbox = 0
        self._vhost, self._tables = vhost, tables

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._keep_looking())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._looking.cancel()
        with suppress(asyncio.CancelledError):
            await self._looking
        await self._look()

    async def _keep_looking(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(0.2)

    async def _look(self) -> None:
        self.queue = max(self.queue, (await self._vhost.management.depth(QUEUE)).ready)
        self.outbox = max(self.outbox, await self._tables.unpublished())


async def populate(tables: AppTables, first: int, last: int) -> None:
    """Users with these ids, each with an overdue task."""
    await tables.execute(USERS, first, last)
    await tables.execute(TASKS, first, last)
    await tables.execute("ANALYZE")


async def mailing(tables: AppTables, kind: str, at: datetime) -> None:
    """The mailing to everybody, as if the scheduler had made it due then."""
    body = json.dumps({"occurrence": at.isoformat().replace("+00:00", "Z"), "timezone": "UTC"})
    await tables.execute(
        "INSERT INTO taskbell.outbox (owner, routing_key, body, message_id) VALUES ('notifier', $1, $2::jsonb, $1)",
        f"{kind}.due",
        body,
    )


@asynccontextmanager
async def held_up(url: str, kind: str, at: datetime, user: int) -> AsyncIterator[None]:
    """The page with that user cannot be planned: another transaction has that row, and in the end rolls it back."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("BEGIN")
        await connection.execute(
            "INSERT INTO taskbell.delivery (mailing_id, kind, recipient, user_id, period, due_at, expires_at)"
            " VALUES (0, $1, 'user:' || $2::bigint, $2, $3, now(), now())",
            kind,
            user,
            at.date().isoformat(),
        )
        yield
        await connection.execute("ROLLBACK")
    finally:
        connection.terminate()


async def a_page_waits(tables: AppTables) -> bool:
    """Has the planner come to the row that is held up?"""
    return bool(await tables.number(f"{AT_WORK} AND wait_event_type = 'Lock'"))


async def nobody_is_at_work(tables: AppTables) -> bool:
    """Has PostgreSQL noticed that the notifier was killed?"""
    return not await tables.number(AT_WORK)


async def is_planned(tables: AppTables, kind: str) -> bool:
    """Has everybody a row?"""
    return bool(await tables.number("SELECT count(planned_at) FROM taskbell.mailing WHERE kind = $1", kind))


async def nothing_waits(tables: AppTables) -> bool:
    """Is every message at the broker?"""
    return not await tables.unpublished()


async def everybody_has_one_row(tables: AppTables, users: int) -> None:
    """And that row is in a message."""
    (found,) = await tables.rows(
        "SELECT count(*) AS rows, count(DISTINCT user_id) AS users, max(run) AS run FROM taskbell.delivery"
        " WHERE kind = 'overdue'"
    )
    assert found == {"rows": users, "users": users, "run": 0}
    (mailing,) = await tables.rows("SELECT planned, already, state FROM taskbell.mailing WHERE kind = 'overdue'")
    assert mailing == {"planned": users, "already": 0, "state": "sending"}
    forgotten = await tables.number(
        "SELECT count(*) FROM taskbell.delivery WHERE id NOT IN ("
        " SELECT jsonb_array_elements(body -> 'delivery_ids')::bigint FROM taskbell.outbox WHERE routing_key = $1)",
        QUEUE,
    )
    assert forgotten == 0


async def pace(tables: AppTables, before: int) -> float:
    """Rows a second that the last process planned: all but those that were there before."""
    (found,) = await tables.rows(
        "SELECT count(*) AS rows, extract(epoch FROM max(m.planned_at) - min(d.created_at))::float AS seconds"
        " FROM taskbell.delivery AS d JOIN taskbell.mailing AS m ON m.id = d.mailing_id"
        " WHERE m.kind = 'overdue' AND d.id >= ("
        "  SELECT id FROM taskbell.delivery WHERE kind = 'overdue' ORDER BY id OFFSET $1 LIMIT 1)",
        before,
    )
    return float(found["rows"] / found["seconds"])


def peak(process: ServiceProcess) -> float:
    """The most memory that its process ever had, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / MIB
