"""A notifier that stands still past its leases, and wakes when another has taken over."""

from pathlib import Path

import pytest

from tests.chaos import checker
from tests.chaos.crew import Crew
from tests.chaos.figures import Figures
from tests.chaos.ground import Ground
from tests.chaos.plan import Plan
from tests.chaos.scene import environment
from tests.chaos.sink import logged_sink
from tests.chaos.town import Town, fresh_town
from tests.support.waiting import eventually

pytestmark = pytest.mark.full

POOL = 8
LIMIT = 240.0  # seconds for the mailing to come to its end


async def test_a_notifier_that_slept_past_its_leases_sends_no_row_that_another_has_taken(
    ground: Ground, plan: Plan, figures: Figures, tmp_path: Path
) -> None:
    people = plan.pick(quick=200, full=1_000)
    own = {"MAIL_POOL_SIZE": str(POOL), "MAIL_LEASE_SECONDS": "3"}
    async with (
        fresh_town(ground) as town,
        logged_sink(tmp_path) as sink,
        Crew(environment(ground, town, sink, **own)) as crew,
    ):
        # In every step of a mail some are caught, and most of those in the data: there it may have been taken.
        sink.server.rule("RCPT", delay=0.05, chance=0.5)
        sink.server.rule("DOT", delay=0.3, accept=True, chance=0.5)
        sink.server.rule("DOT", delay=0.3)
        await town.people(people)
        (sleeper,), (other,), (maintenance,) = (crew.add(it) for it in ("notifier", "notifier", "maintenance"))
        await sleeper.start()
        await maintenance.start()
        await town.execute("SELECT taskbell.enqueue('overdue.due', '{}'::jsonb, 'the mailing')")
        await eventually(lambda: sum(sink.taken().values()) >= people // 10, limit=LIMIT, what="the first mails")
        sleeper.pause()
        assert await under_way(town, "envelope") > 0
        in_data = await under_way(town, "data")
        await let_time_pass(town)
        await other.start()
        await eventually(lambda: all_have_ended(town, people), limit=LIMIT, what="the end of the mailing")

        sleeper.resume()
        await eventually(sleeper.is_ready, limit=LIMIT)
        await town.execute("SELECT taskbell.enqueue('reminder.due', '{}'::jsonb, 'another mailing')")
        await eventually(lambda: all_have_ended(town, 2 * people), limit=LIMIT, what="the end of both")
        crew.check_running()
        counted = sum([await member.metric("taskbell_mail_resends_total") for member in (sleeper, other)])
        await crew.stop()

        verdict = await checker.compare(town, sink, people=people, kinds=("overdue", "reminder"))
        verdict.check()
        assert verdict.states == {"sent": 2 * people}
        assert set(verdict.doubled.values()) <= {2}
        # Twice: a session takes its next mail while the outcome of the last is being committed.
        assert 0 < len(verdict.resent) <= in_data <= 2 * POOL
        assert counted == len(verdict.resent), "nobody died, so the metric has them all"
        row = "stalled past its lease"
        figures.note(row, "rows in the data window when it stalled", in_data, at_most=2 * POOL)
        figures.note(row, "rows sent again", len(verdict.resent), at_most=in_data)
        figures.note(row, "mails taken twice outside the data window", len(verdict.unexplained), at_most=0)


async def under_way(town: Town, phase: str) -> int:
    """Rows that are being sent and stand there."""
    return await town.number("SELECT count(*) FROM taskbell.delivery WHERE state = 'sending' AND phase = $1", phase)


async def let_time_pass(town: Town) -> None:
    """As much as all leases need: nobody who would renew them is awake."""
    await town.execute("UPDATE taskbell.delivery SET lease_until = now(), due_at = now() WHERE state = 'sending'")


async def all_have_ended(town: Town, rows: int) -> bool:
    """Are there so many, and none open?"""
    assert await town.number("SELECT count(*) FROM taskbell.delivery") == rows
    return await town.open_deliveries() == 0
