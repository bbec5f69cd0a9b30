"""SIGTERM in the middle of work: nothing new is taken, what has begun is finished, and the process exits with 0."""

import random
import time
from pathlib import Path

import pytest

from tests.chaos.support.app_tables import (
    AppTables,
    Servers,
    SharedServers,
    every_status_changed_once,
    fresh_app_tables,
    nothing_can_be_written,
)
from tests.chaos.support.comparison import compare
from tests.chaos.support.figures import Figures
from tests.chaos.support.plan import Plan
from tests.chaos.support.processes import Processes
from tests.chaos.support.scheduler_scenario import DAY, scheduler_scenario
from tests.chaos.support.sink import logged_sink
from tests.chaos.support.workload import (
    LIMIT,
    STATUSES,
    Workload,
    environment,
    is_empty,
    prepared_workload,
    publish_commands,
    since,
)
from tests.chaos.test_schedulers import SCHEDULES, check, first, recorded, steps
from tests.support.servers import ServerUrls
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

pytestmark = pytest.mark.full

ROW = "SIGTERM"
LIMIT_OF_SUPERVISORS = 30.0  # seconds
PEOPLE = 60
SESSIONS = 2
STATUS, TEST_MAIL = "maintenance.update_task_status", "notifier.send_test_mail"


async def test_a_notifier_waits_for_final_replies_takes_nothing_new_and_leaves_what_is_in_doubt_to_the_sweeper(
    plan: Plan, figures: Figures, servers: ServerUrls, vhost: Vhost, tmp_path: Path
) -> None:
    """At full size one reply never comes: only the 25 s that the process waits for it are over then, nothing else."""
    in_doubt = plan.pick(quick=0, full=1)
    shared = SharedServers(servers.database_url, vhost.url, vhost.management)
    own = {"MAIL_POOL_SIZE": str(SESSIONS), "MAIL_LEASE_SECONDS": "3"}
    async with (
        fresh_app_tables(shared) as tables,
        logged_sink(tmp_path) as sink,
        Processes(environment(shared, tables, sink, **own)) as processes,
    ):
        await tables.people(PEOPLE)
        begun = sink.server.rule("MAIL")
        finished = sink.server.rule("DOT", hold=True, times=SESSIONS - in_doubt)
        sink.server.rule("DOT", hold=True, accept=True)
        (notifier,), (maintenance,) = processes.add("notifier"), processes.add("maintenance")
        await notifier.start()
        await maintenance.start()
        await tables.execute("SELECT taskbell.enqueue('overdue.due', '{}'::jsonb, 'the mailing')")
        await sink.server.until(lambda: finished.seen == SESSIONS, LIMIT)

        notifier.terminate()
        told = time.monotonic()
        await eventually(lambda: ledger_is(tables, {"sending": SESSIONS, "planned": PEOPLE - SESSIONS}), limit=60)
        await tables.execute("SELECT taskbell.enqueue($1, '{\"to\": \"late@example.org\"}'::jsonb, 'late')", TEST_MAIL)
        await eventually(lambda: waits_in_the_queue(shared), limit=60)
        sink.server.release(finished)
        status = await notifier.ended()
        took = since(told)
        assert status == 0, notifier.said()
        assert begun.seen == finished.seen == SESSIONS, "it took something new"
        assert await waits_in_the_queue(shared)
        left = {"sent": SESSIONS - in_doubt, "planned": PEOPLE - SESSIONS} | ({"unknown": 1} if in_doubt else {})
        assert await ledger_is(tables, left)
        assert await tables.number("SELECT sum(attempts) FROM taskbell.delivery") == SESSIONS
        assert ("smtp.left_in_doubt" in notifier.log.read_text(encoding="utf-8")) == bool(in_doubt)

        sink.server.clear()
        await notifier.start()
        await bring_forward(tables)
        await eventually(lambda: ledger_is(tables, {"sent": PEOPLE + 1}), limit=LIMIT)
        assert await notifier.metric("taskbell_mail_resends_total") == in_doubt
        await notifier.stop()
        await maintenance.stop()
        comparison = await compare(tables, sink, people=PEOPLE, kinds=("overdue",))
        comparison.check()
        assert (len(comparison.doubled), len(comparison.resent)) == (in_doubt, in_doubt), (
            "sent again under its Message-ID, once"
        )
        figures.note(ROW, "final replies outstanding that never came", in_doubt)
        figures.note(ROW, "seconds until the notifier had ended", took, at_most=LIMIT_OF_SUPERVISORS)


async def test_a_maintenance_that_is_stopped_under_load_loses_nothing_and_does_nothing_twice(
    plan: Plan, figures: Figures, servers: ServerUrls, vhost: Vhost, tmp_path: Path
) -> None:
    """It is in the middle of a set that takes its time, and has more in hand."""
    times, commands = plan.pick(quick=(1, 100), full=(6, STATUSES))
    shared = SharedServers(servers.database_url, vhost.url, vhost.management)
    async with prepared_workload(shared, tmp_path) as it:
        (maintenance,) = it.processes.of("maintenance")
        took = []
        for number in range(times):
            share = it.tasks[commands * number // times : commands * (number + 1) // times]
            await maintenance.start()
            await eventually(lambda: caught_up(it, share.start - it.tasks.start), limit=LIMIT)  # noqa: B023
            async with nothing_can_be_written(it.tables):
                await publish_commands(shared, share)
                await eventually(lambda: is_empty(shared, STATUS), limit=LIMIT, what="all in hand")
                maintenance.terminate()
                began = time.monotonic()
                await eventually(lambda: some_went_back(shared), limit=LIMIT, what="some back")
            assert await maintenance.ended() == 0, maintenance.said()
            took.append(since(began))
        await maintenance.start()
        await eventually(lambda: caught_up(it, commands), limit=LIMIT)
        await every_status_changed_once(it.tables, it.servers, it.events, it.tasks[:commands])
        assert await is_empty(shared, "maintenance.dead")
        await maintenance.stop()
        figures.note(ROW, "times that maintenance was stopped under load", times)
        figures.note(ROW, "seconds until it had ended, at most", max(took), at_most=LIMIT_OF_SUPERVISORS)


async def test_a_scheduler_that_is_stopped_under_load_publishes_each_occurrence_once(
    plan: Plan, seed: int, figures: Figures, database_url: str, vhost: Vhost, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    zones, wanted = plan.pick(quick=(40, 100), full=(150, 2_000))
    async with scheduler_scenario(
        database_url, vhost, tmp_path, chance, zones=zones, schedules=SCHEDULES, schedulers=1
    ) as it:
        start = it.shortly_before_a_clock_changes(chance)
        expected = first(it.due(start, start + 2 * DAY), wanted)
        await it.begin(start)
        known, took = 0, []
        for moment, count in steps(expected):
            await it.clock.set(moment)
            await recorded(it, known + chance.randrange(count))
            began = time.monotonic()
            assert await it.processes.end() == [0], f"SEED={seed}: {it.processes.ends_of_logs()}"
            took.append(since(began))
            await it.processes.start()
            known += count
            await recorded(it, known)
        await check(it, expected, [], seed)
        ids = it.arrivals.ids()
        figures.note(ROW, "times that a scheduler was stopped under load", len(took))
        figures.note(ROW, "seconds until it had ended, at most", max(took), at_most=LIMIT_OF_SUPERVISORS)
        figures.note(ROW, "occurrences, each published once", len(set(ids)), at_least=wanted)


async def ledger_is(tables: AppTables, rows: dict[str, int]) -> bool:
    """Are these all of its rows, by state?"""
    found = await tables.rows("SELECT state, count(*) AS rows FROM taskbell.delivery GROUP BY state")
    assert {row["state"]: row["rows"] for row in found} == rows, found
    return True


async def waits_in_the_queue(shared: Servers) -> bool:
    """Is one message there, and nobody who takes it?"""
    return (await shared.management.depth(TEST_MAIL)) == (1, 0)


async def bring_forward(tables: AppTables) -> None:
    """The wait for the next try of each mail is over."""
    await tables.execute(
        "UPDATE taskbell.delivery SET next_attempt_at = now(), due_at = now()"
        " WHERE state IN ('planned', 'retry', 'unknown')"
    )


async def done(it: Workload) -> int:
    """How many commands are."""
    return await it.tables.number("SELECT count(*) FROM taskbell.command WHERE state = 'done'")


async def some_went_back(shared: SharedServers) -> bool:
    """Of the commands that it had in hand."""
    return not await is_empty(shared, STATUS)


async def caught_up(it: Workload, commands: int) -> bool:
    """Are so many done, and all their events published?"""
    return await done(it) == commands and await it.tables.unpublished() == 0
