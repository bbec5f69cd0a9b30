"""A notifier that stands still past its leases, and wakes when another has taken over."""

from pathlib import Path

import pytest

from tests.chaos.support.app_tables import AppTables, fresh_app_tables
from tests.chaos.support.comparison import compare
from tests.chaos.support.figures import Figures
from tests.chaos.support.own_servers import OwnServers
from tests.chaos.support.plan import Plan
from tests.chaos.support.processes import Processes
from tests.chaos.support.sink import logged_sink
from tests.chaos.support.workload import environment
from tests.support.waiting import eventually

pytestmark = pytest.mark.full

POOL = 8
LIMIT = 240.0  # seconds for the mailing to come to its end


async def test_a_notifier_that_slept_past_its_leases_sends_no_row_that_another_has_taken(
    own_servers: OwnServers, plan: Plan, figures: Figures, tmp_path: Path
) -> None:
    people = plan.pick(quick=200, full=1_000)
    own = {"MAIL_POOL_SIZE": str(POOL), "MAIL_LEASE_SECONDS": "3"}
    async with (
        fresh_app_tables(own_servers) as tables,
        logged_sink(tmp_path) as sink,
        Processes(environment(own_servers, tables, sink, **own)) as processes,
    ):
        # In every step of a mail some are caught, and most of those in the data: there it may have been taken.
        sink.server.rule("RCPT", delay=0.05, chance=0.5)
        sink.server.rule("DOT", delay=0.3, accept=True, chance=0.5)
        sink.server.rule("DOT", delay=0.3)
        await tables.people(people)
        (sleeper,), (other,), (maintenance,) = (processes.add(it) for it in ("notifier", "notifier", "maintenance"))
        await sleeper.start()
        await maintenance.start()
        await tables.execute("SELECT taskbell.enqueue('overdue.due', '{}'::jsonb, 'the mailing')")
        await eventually(lambda: sum(sink.taken().values()) >= people // 10, limit=LIMIT, what="the first mails")
        sleeper.pause()
        assert await under_way(tables, "envelope") > 0
        in_data = await under_way(tables, "data")
        await let_time_pass(tables)
        await other.start()
        await eventually(lambda: all_have_ended(tables, people), limit=LIMIT, what="the end of the mailing")

        sleeper.resume()
        await eventually(sleeper.is_ready, limit=LIMIT)
        await tables.execute("SELECT taskbell.enqueue('reminder.due', '{}'::jsonb, 'another mailing')")
        await eventually(lambda: all_have_ended(tables, 2 * people), limit=LIMIT, what="the end of both")
        processes.check_running()
        counted = sum([await process.metric("taskbell_mail_resends_total") for process in (sleeper, other)])
        await processes.stop()

        comparison = await compare(tables, sink, people=people, kinds=("overdue", "reminder"))
        comparison.check()
        assert comparison.states == {"sent": 2 * people}
        assert set(comparison.doubled.values()) <= {2}
        # Twice: a session takes its next mail while the outcome of the last is being committed.
        assert 0 < len(comparison.resent) <= in_data <= 2 * POOL
        assert counted == len(comparison.resent), "nobody died, so the metric has them all"
        row = "stalled past its lease"
        figures.note(row, "rows in the data window when it stalled", in_data, at_most=2 * POOL)
        figures.note(row, "rows sent again", len(comparison.resent), at_most=in_data)
        figures.note(row, "mails taken twice outside the data window", len(comparison.unexplained), at_most=0)


async def under_way(tables: AppTables, phase: str) -> int:
    """Rows that are being sent and stand there."""
    return await tables.number("SELECT count(*) FROM taskbell.delivery WHERE state = 'sending' AND phase = $1", phase)


async def let_time_pass(tables: AppTables) -> None:
    """As much as all leases need: nobody who would renew them is awake."""
    await tables.execute("UPDATE taskbell.delivery SET lease_until = now(), due_at = now() WHERE state = 'sending'")


async def all_have_ended(tables: AppTables, rows: int) -> bool:
    """Are there so many, and none open?"""
    assert await tables.number("SELECT count(*) FROM taskbell.delivery") == rows
    return await tables.open_deliveries() == 0
