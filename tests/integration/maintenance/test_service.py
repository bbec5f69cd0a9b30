"""The service as a whole: order, queues that do not wait for each other, and its web app's outbox."""

import asyncio
import json

import pytest
from tests.integration.maintenance.service import running
from tests.integration.maintenance.use_cases import Maintenance, connect
from tests.support.inbox import Inbox
from tests.support.installation import Installation
from tests.support.management import Management
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell.database import Transaction
from taskbell_maintenance.domain import Page
from taskbell_maintenance.repository import archive
from taskbell_maintenance.repository.archive import PageRequest
from taskbell_maintenance.repository.locks import TaskLocks

COMMANDS = "taskbell.commands"
UPDATE = "maintenance.update_task_status"


async def test_updates_of_one_task_take_effect_in_the_order_in_which_they_were_sent(
    maintenance: Maintenance, database_url: str, broker_url: str, management: Management
) -> None:
    tasks = [await maintenance.task() for _ in range(20)]
    for status in ("in_progress", "done", "cancelled", "done", "pending", "in_progress"):
        for task in tasks:
            await management.publish(COMMANDS, UPDATE, {"task_id": task, "new_status": status})
    async with running(database_url, broker_url):

        async def all_done() -> bool:
            return bool(await maintenance.value("SELECT count(*) = 120 FROM taskbell.command WHERE state = 'done'"))

        await eventually(all_done)
    assert {await maintenance.status(task) for task in tasks} == {"in_progress"}
    steps = await maintenance.rows("SELECT body FROM taskbell.outbox ORDER BY id")
    for task in tasks:
        taken = [step["body"]["new_status"] for step in steps if step["body"]["task_id"] == task]
        assert taken == ["in_progress", "done", "cancelled", "done", "pending", "in_progress"]


async def test_a_status_update_does_not_wait_behind_a_cleanup(
    maintenance: Maintenance,
    database_url: str,
    broker_url: str,
    management: Management,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = await maintenance.task()
    await maintenance.done(31)
    held, go_on = asyncio.Event(), asyncio.Event()
    take = archive.take

    async def slow(transaction: Transaction, locks: TaskLocks, request: PageRequest) -> Page:
        held.set()
        await go_on.wait()
        return await take(transaction, locks, request)

    monkeypatch.setattr(archive, "take", slow)
    async with running(database_url, broker_url):
        await management.publish(COMMANDS, "maintenance.cleanup_completed_tasks", {})
        await asyncio.wait_for(held.wait(), 30)
        await management.publish(COMMANDS, UPDATE, {"task_id": task, "new_status": "done"})
        await eventually(lambda: maintenance.rows("SELECT FROM tasks WHERE id = $1 AND status = 'done'", task))
        assert await maintenance.rows("SELECT FROM taskbell.command WHERE routing_key LIKE '%cleanup%'") == []
        go_on.set()
        await eventually(lambda: maintenance.rows("SELECT FROM taskbell.command WHERE routing_key LIKE '%cleanup%'"))


async def test_its_settings_are_what_a_command_leaves_open(
    maintenance: Maintenance, database_url: str, broker_url: str, management: Management
) -> None:
    for days in (4, 6, 31):
        await maintenance.done(days)
    await maintenance.many(117)
    cleanup = "maintenance.cleanup_completed_tasks"
    async with running(database_url, broker_url, retention_days=5, cleanup_max_share="0.02", timezone="Asia/Tokyo"):
        await management.publish(COMMANDS, cleanup, {"older_than_days": 3}, properties={"message_id": "a"})
        await eventually(lambda: _ended(maintenance, 1))
        await management.publish(COMMANDS, cleanup, {}, properties={"message_id": "b"})
        await management.publish(COMMANDS, "maintenance.generate_task_report", {}, properties={"message_id": "c"})
        await eventually(lambda: _ended(maintenance, 3))
    ends = {message_id: await maintenance.outcome(message_id) for message_id in "abc"}
    assert (ends["a"]["state"], ends["a"]["result"]) == ("rejected", {"tasks": 3, "of": 120})
    assert (ends["b"]["state"], ends["b"]["result"]["tasks"]) == ("done", 2)
    tokyo = await maintenance.value("SELECT (as_of AT TIME ZONE 'Asia/Tokyo')::date FROM taskbell.report")
    assert await maintenance.value("SELECT date FROM taskbell.report") == tokyo


async def test_what_the_web_app_enqueues_in_its_own_transaction_is_carried_out(
    maintenance: Maintenance, database_url: str, broker_url: str
) -> None:
    task = await maintenance.task()
    body = json.dumps({"task_id": task, "new_status": "done"})
    enqueue = f"SELECT taskbell.enqueue('{UPDATE}', $1, $2)"
    app = await connect(database_url)
    try:
        async with running(database_url, broker_url):
            transaction = app.transaction()
            await transaction.start()
            await app.execute(enqueue, json.loads(body), "undone")
            await transaction.rollback()
            async with app.transaction():
                await app.execute(enqueue, json.loads(body), "done")
            await eventually(lambda: maintenance.rows("SELECT FROM taskbell.command"))
    finally:
        await app.close()
    assert [row["message_id"] for row in await maintenance.rows("SELECT message_id FROM taskbell.command")] == ["done"]
    assert await maintenance.status(task) == "done"


async def test_sigterm_in_a_long_cleanup_ends_the_process_and_the_next_goes_on(
    database_url: str, vhost: Vhost, inbox: Inbox, maintenance: Maintenance
) -> None:
    installation = Installation(database_url, vhost, inbox)
    await maintenance.many(20_000, "done", days=31)
    await installation.start("maintenance")
    await installation.management.publish(
        COMMANDS, "maintenance.cleanup_completed_tasks", {"force": True}, properties={"message_id": "m1"}
    )
    await eventually(lambda: maintenance.rows("SELECT FROM taskbell.archive_batch WHERE tasks > 0"))
    await installation.stop()
    assert await maintenance.rows("SELECT FROM taskbell.command") == []
    await installation.start("maintenance")
    try:
        await eventually(lambda: maintenance.rows("SELECT FROM taskbell.command"), limit=60)
    finally:
        await installation.stop()
    assert (await maintenance.outcome("m1"))["result"]["tasks"] == 20_000


async def test_a_set_that_meets_an_unexpected_error_loses_only_the_culprit_to_the_ladder(
    maintenance: Maintenance, database_url: str, broker_url: str, management: Management
) -> None:
    """A task that somebody keeps locked: its neighbours take effect, its own command is tried again later."""
    tasks = [await maintenance.task() for _ in range(5)]
    other = await connect(database_url)
    try:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE tasks SET title = 'Being edited' WHERE id = $1", tasks[2])
        for task in tasks:
            await management.publish(
                COMMANDS, UPDATE, {"task_id": task, "new_status": "done"}, properties={"message_id": f"m{task}"}
            )
        async with running(database_url, broker_url):
            await eventually(lambda: _states(maintenance, 4), what="the neighbours are done")
            await eventually(lambda: _waits(management), what="the culprit is on the ladder")
            await transaction.commit()
            await eventually(lambda: _states(maintenance, 5), limit=60, what="the culprit is done, too")
    finally:
        await other.close()
    assert [await maintenance.status(task) for task in tasks] == ["done"] * 5
    assert await maintenance.value("SELECT attempts FROM taskbell.command WHERE message_id = $1", f"m{tasks[2]}") == 2


async def _ended(maintenance: Maintenance, number: int) -> bool:
    return bool(await maintenance.value("SELECT count(*) = $1 FROM taskbell.command", number))


async def _states(maintenance: Maintenance, number: int) -> bool:
    return bool(await maintenance.value("SELECT count(*) = $1 FROM taskbell.command WHERE state = 'done'", number))


async def _waits(management: Management) -> bool:
    return (await management.depth("taskbell.retry.10s")).ready == 1
