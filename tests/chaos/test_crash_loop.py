"""Notifiers that each die younger than a lease: what was claimed is taken up all the same."""

from pathlib import Path

import pytest

from tests.chaos.support.app_tables import AppTables, SharedServers, fresh_app_tables
from tests.chaos.support.comparison import compare
from tests.chaos.support.processes import Processes
from tests.chaos.support.sink import logged_sink
from tests.chaos.support.workload import environment
from tests.support.servers import ServerUrls
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

pytestmark = pytest.mark.full

LEASE = 12.0  # seconds
LIFE = LEASE / 3  # seconds that each process sees PostgreSQL answer before it is killed
PEOPLE = 20
POOL = 2
ROUNDS = 12
LIMIT = 120.0


async def test_notifiers_in_a_crash_loop_take_up_what_the_dead_had_claimed(
    servers: ServerUrls, vhost: Vhost, tmp_path: Path
) -> None:
    shared = SharedServers(servers.database_url, vhost.url, vhost.management)
    own = {"MAIL_POOL_SIZE": str(POOL), "MAIL_LEASE_SECONDS": str(LEASE)}
    async with (
        fresh_app_tables(shared) as tables,
        logged_sink(tmp_path) as sink,
        Processes(environment(shared, tables, sink, **own)) as processes,
    ):
        sink.server.rule("DOT", hold=True)
        await tables.people(PEOPLE)
        (notifier,), (maintenance,) = (processes.add(it) for it in ("notifier", "maintenance"))
        await notifier.start()
        await maintenance.start()
        await tables.execute("SELECT taskbell.enqueue('overdue.due', '{}'::jsonb, 'the mailing')")
        await eventually(lambda: in_phase(tables, "data", POOL), limit=LIMIT, what="mails in the data")
        await notifier.kill()
        sink.server.clear()
        # The leases of the dead run out. Their rows are due later: only the sweeper's search finds them.
        await tables.execute(
            "UPDATE taskbell.delivery SET lease_until = now(), due_at = now() + interval '1 hour'"
            " WHERE ended_at IS NULL"
        )
        for _ in range(ROUNDS):
            await notifier.start()
            began = await seen(tables)
            await eventually(lambda began=began: lived(tables, began), limit=LIMIT, what="some seconds of its life")
            if await ended(tables):
                break
            await notifier.kill()
        else:
            pytest.fail("rows are open still")
        assert notifier.kills > 1, "one process alone saw a full lease"
        await processes.stop()

        comparison = await compare(tables, sink, people=PEOPLE, kinds=("overdue",))
        comparison.check()
        assert comparison.states == {"sent": PEOPLE}
        assert len(comparison.resent) == POOL


async def in_phase(tables: AppTables, phase: str, rows: int) -> bool:
    return rows == await tables.number(
        "SELECT count(*) FROM taskbell.delivery WHERE state = 'sending' AND phase = $1", phase
    )


async def seen(tables: AppTables) -> int:
    """The moment at which a notifier last saw PostgreSQL answer, in Unix milliseconds."""
    return await tables.number("SELECT (extract(epoch FROM max(until)) * 1000)::bigint FROM taskbell.answering")


async def lived(tables: AppTables, began: int) -> bool:
    return await seen(tables) - began >= LIFE * 1000 or await ended(tables)


async def ended(tables: AppTables) -> bool:
    return not await tables.number("SELECT count(*) FROM taskbell.delivery WHERE ended_at IS NULL")
