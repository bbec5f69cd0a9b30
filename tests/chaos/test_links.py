"""The way to the broker fails without a word, and the services notice by themselves."""

import time
from pathlib import Path

import pytest

from taskbell.messaging.consuming import session
from tests.chaos.support import frequent_checks_maintenance
from tests.chaos.support.app_tables import SharedServers, every_status_changed_once
from tests.chaos.support.failing_proxies import ForgetfulProxy, SilentProxy
from tests.chaos.support.figures import Figures
from tests.chaos.support.plan import Plan
from tests.chaos.support.workload import (
    LIMIT,
    STATUSES,
    Workload,
    all_is_done,
    check,
    commands_are_done,
    everything_is_consumed,
    prepared_workload,
    publish_commands,
    running_workload,
    since,
)
from tests.support.servers import ServerUrls
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
QUEUE = "maintenance.update_task_status"


async def test_connections_that_fall_silent_are_given_up_and_what_was_on_them_is_neither_lost_nor_doubled(
    plan: Plan, figures: Figures, servers: ServerUrls, vhost: Vhost, tmp_path: Path
) -> None:
    async with SilentProxy(vhost.url) as proxy:
        # With a heartbeat of one second silence is noticed after 6 s, with ours after 31 s at most.
        way = proxy.url + plan.pick(quick="?heartbeat=1", full="")
        direct = SharedServers(servers.database_url, vhost.url, vhost.management)
        async with running_workload(SharedServers(servers.database_url, way, vhost.management), tmp_path) as it:
            pids = [process.pid for process in it.processes.all]
            await publish_commands(direct, it.tasks[: STATUSES // 2])
            proxy.fall_silent()
            silent = time.monotonic()
            assert proxy.running >= 6, "two groups of consumers, one of maintenance's, and each service's publisher"
            await it.tables.start_work_on(it.tasks[STATUSES // 2 :])
            await eventually(lambda: len(proxy.given_up) == proxy.running, limit=LIMIT, what="all given up")
            for process in it.processes.all:
                await eventually(lambda: process.is_red("RabbitMQ"), limit=60, what=f"{process.name} red")  # noqa: B023
            assert await it.tables.unpublished() > 0
            proxy.let_new_ones_through()
            back = time.monotonic()
            await eventually(lambda: everything_is_consumed(direct), limit=LIMIT)
            row = "half-open connection"
            figures.note(row, "connections that fell silent", proxy.running)
            figures.note(row, "seconds until the last was given up", max(proxy.given_up) - silent, at_most=35)
            figures.note(row, "seconds from when new ones got through to the last consumer", since(back))
            await eventually(lambda: all_is_done(it), limit=LIMIT)
            assert [process.pid for process in it.processes.all] == pids, "restarted"
            await check(it)


async def test_a_process_whose_consumer_is_gone_at_the_broker_turns_red_and_ends_so_that_it_is_started_anew(
    plan: Plan, figures: Figures, servers: ServerUrls, vhost: Vhost, tmp_path: Path
) -> None:
    async with ForgetfulProxy(vhost.url) as proxy:
        shared = SharedServers(servers.database_url, proxy.url, vhost.management)
        async with prepared_workload(shared, tmp_path) as it:
            module = plan.pick(quick=frequent_checks_maintenance.__name__, full=None)
            (maintenance,) = it.processes.add("maintenance", module=module, PYTHONPATH=str(ROOT))
            await maintenance.start()
            await publish_commands(shared, it.tasks[: STATUSES // 2])
            await eventually(lambda: some_are_done(it), limit=LIMIT)
            proxy.forget(QUEUE)
            gone = time.monotonic()
            await publish_commands(shared, it.tasks[STATUSES // 2 :])
            await eventually(lambda: maintenance.is_red(f"no consumer of {QUEUE}"), limit=60, what="red")
            red = since(gone)
            status = await maintenance.ended()
            end = since(gone)
            assert status == 1, maintenance.said()
            assert "ConsumerGone" in maintenance.log.read_text(encoding="utf-8")

            proxy.remember()
            await maintenance.start()
            await eventually(lambda: commands_are_done(it.tables), limit=LIMIT)
            await eventually(lambda: all_is_published(it), limit=LIMIT)
            await every_status_changed_once(it.tables, it.servers, it.events, it.tasks)
            row = "consumer gone at the broker"
            asked = plan.pick(quick=0.5, full=session.COUNT) * session.MISSES
            figures.note(row, "seconds until readiness was red", red, at_most=asked + 5)
            figures.note(row, "seconds until the process ended", end, at_most=2 * asked + 10)
            await maintenance.stop()


async def some_are_done(it: Workload) -> bool:
    """The first half of the commands."""
    done = await it.tables.number("SELECT count(*) FROM taskbell.command WHERE state = 'done'")
    return done == STATUSES // 2


async def all_is_published(it: Workload) -> bool:
    """Does nothing wait in the outbox?"""
    return await it.tables.unpublished() == 0
