"""Queues and bindings are removed while all runs: what cannot go anywhere waits, red, and is not lost."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from taskbell.contracts.catalogue import CATALOGUE
from taskbell.messaging.topology import service_of, topology
from tests.chaos.support.app_tables import FIRST_TASK, AppTables, SharedServers, fresh_app_tables
from tests.chaos.support.figures import Figures
from tests.chaos.support.plan import Plan
from tests.chaos.support.processes import Processes
from tests.chaos.support.sink import Sink, logged_sink
from tests.chaos.support.workload import LIMIT, environment, is_empty, since
from tests.support.command import taskbell
from tests.support.servers import ServerUrls
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

pytestmark = pytest.mark.full

QUEUES = [message.queue for message in CATALOGUE.values() if message.queue is not None]
OWNERS = {"notifier.send_batch": "notifier", "notifier.report_generated": "maintenance"}
"""Who publishes to a queue; maintenance, for the web app, to all others."""
PEOPLE = 5  # who get mail in each round, of each kind
KINDS = ("reminder", "overdue", "weekly")
COMMANDS_A_ROUND = 4


async def test_what_has_lost_its_queue_or_binding_waits_and_is_caught_up_with_once_setup_has_restored_it(
    plan: Plan, seed: int, figures: Figures, servers: ServerUrls, vhost: Vhost, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    queues = rng.sample(QUEUES, plan.pick(quick=1, full=len(QUEUES)))
    unbound = rng.sample(QUEUES, plan.pick(quick=1, full=len(QUEUES)))
    removals = [(queue, "queue") for queue in queues] + [(queue, "binding") for queue in unbound]
    shared = SharedServers(servers.database_url, vhost.url, vhost.management)
    reports = {"REPORT_RECIPIENTS": "operators@example.org"}
    async with (
        fresh_app_tables(shared) as tables,
        logged_sink(tmp_path) as sink,
        Processes(environment(shared, tables, sink, **reports)) as processes,
    ):
        await tables.people(PEOPLE * len(removals))
        await tables.tasks(len(removals))
        for service in ("notifier", "maintenance"):
            processes.add(service)
        await processes.start()
        pids = [process.pid for process in processes.all]
        red, caught_up = 0.0, 0.0
        for number, (queue, what) in enumerate(removals):
            said = f"the {what} of {queue}, SEED={seed}"
            await remove(shared, queue, what)
            await enqueue_one_of_each(tables, number)
            removed = time.monotonic()
            await waits_and_says_so(tables, processes, queue, what, said)
            red = max(red, since(removed))
            done = await taskbell("setup", DATABASE_URL=tables.database_url, BROKER_URL=shared.broker_url)
            assert done.status == 0, done.err
            restored = time.monotonic()
            for process in processes.all:
                await eventually(process.is_ready, limit=LIMIT, what=f"{process.name} ready without {said}")
            await eventually(lambda: all_took_effect(tables, number + 1), limit=LIMIT)  # noqa: B023
            caught_up = max(caught_up, since(restored))
        assert [process.pid for process in processes.all] == pids, "restarted"
        await processes.stop()
        await nothing_is_left_or_doubled(shared, tables, sink)
        row = "queue or binding removed"
        figures.note(row, "removals", len(removals))
        figures.note(row, "seconds until readiness was red and named it, at most", red)
        figures.note(row, "seconds from setup until all was caught up with, at most", caught_up)


async def remove(shared: SharedServers, queue: str, what: str) -> None:
    """The queue, or its binding; nothing is in it, and nobody has its messages in hand."""
    await eventually(lambda: is_empty(shared, queue))
    if what == "queue":
        await shared.management.call("DELETE", f"/queues/{{vhost}}/{queue}")
        return
    (exchange,) = (it.exchange for it in topology().bindings if it.queue == queue)
    path = f"/bindings/{{vhost}}/e/{exchange}/q/{queue}"
    for binding in await shared.management.call("GET", path):
        await shared.management.call("DELETE", f"{path}/{binding['properties_key']}")


async def enqueue_one_of_each(tables: AppTables, number: int) -> None:
    """One of each message that anyone may publish; the services' own messages follow from them."""
    mailed = {"user_ids": list(range(number * PEOPLE + 1, (number + 1) * PEOPLE + 1))}
    bodies: dict[str, dict[str, Any]] = {f"{kind}.due": mailed for kind in KINDS} | {
        "maintenance.update_task_status": {"task_id": FIRST_TASK + number, "new_status": "in_progress"},
        "maintenance.cleanup_completed_tasks": {"dry_run": True},
        "maintenance.generate_task_report": {},
        "notifier.send_test_mail": {"to": f"tester{number}@example.org"},
        "notifier.report_bounce": {"type": "soft", "address": "nobody@example.org"},
    }
    for key, body in bodies.items():
        await tables.execute("SELECT taskbell.enqueue($1, $2::jsonb, $3)", key, json.dumps(body), f"{key}-{number}")


async def waits_and_says_so(tables: AppTables, processes: Processes, queue: str, what: str, said: str) -> None:
    """The row stays in the outbox, and readiness names what is missing, of its publisher and of its consumer."""
    (key,) = (message.routing_key for message in CATALOGUE.values() if message.queue == queue)
    (publisher,) = processes.of(OWNERS.get(queue, "maintenance"))
    (consumer,) = processes.of(service_of(queue))
    await eventually(lambda: publisher.is_red(f"no queue is bound for '{key}'"), limit=60, what=f"red without {said}")
    if what == "queue":
        await eventually(lambda: consumer.is_red(f"no queue '{queue}'"), limit=60, what=f"red without {said}")
    waiting = "SELECT count(*) FROM taskbell.outbox WHERE routing_key = $1 AND published_at IS NULL"
    assert await tables.number(waiting, key) > 0, said


async def all_took_effect(tables: AppTables, rounds: int) -> bool:
    """So many rounds of messages, and all that follows from them."""
    commands = await tables.rows("SELECT state, count(*) AS rows FROM taskbell.command GROUP BY 1")
    # The bounce was of no mail of ours.
    found = {row["state"]: row["rows"] for row in commands}
    assert found == {"done": COMMANDS_A_ROUND * rounds, "rejected": rounds}, commands
    mailings = await tables.rows("SELECT kind, count(completed_at) AS rows FROM taskbell.mailing GROUP BY 1")
    assert {row["kind"]: row["rows"] for row in mailings} == dict.fromkeys((*KINDS, "report", "test"), rounds), mailings
    assert await tables.number("SELECT count(*) FROM tasks WHERE status = 'in_progress'") == rounds
    # The report of a day is mailed once, however often it is made.
    rows = await tables.number("SELECT count(*) FROM taskbell.delivery WHERE kind <> 'report'")
    assert rows == (len(KINDS) * PEOPLE + 1) * rounds, rows
    return await tables.open_deliveries() == 0 and await tables.unpublished() == 0


async def nothing_is_left_or_doubled(shared: SharedServers, tables: AppTables, sink: Sink) -> None:
    """Every mail went once, and no queue holds anything."""
    rows = await tables.rows("SELECT mail_message_id AS id, state, resends FROM taskbell.delivery")
    assert {(row["state"], row["resends"]) for row in rows} == {("sent", 0)}
    assert sink.taken() == dict.fromkeys((row["id"] for row in rows), 1)
    for queue in topology().queues:
        assert await is_empty(shared, queue.name), queue.name
