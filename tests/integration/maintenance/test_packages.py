"""Handlers that an installed package brings: commands once, events in one transaction a set, errors up the ladder."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from tests.integration.maintenance.service import running
from tests.integration.maintenance.use_cases import Maintenance
from tests.support.command import taskbell
from tests.support.management import Management
from tests.support.packages import Packages, packages_in
from tests.support.roles import PASSWORD, as_user, sole_use_of_logins
from tests.support.servers import ServerUrls
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell.client import AsyncClient
from taskbell.service import Process
from taskbell.setup.broker import declare

PURGE = "maintenance.purge_attachments"
COMMANDS, EVENTS = "taskbell.commands", "taskbell.events"
RENAMED = "maintenance.project_renamed"

SOURCE = """
from taskbell.extend import (
    Contract, Extension, Grant, Handler, HandlerTransaction, Id, Message, Never, Outcome, Received, Text,
)

class Purge(Contract):
    task_id: Id
    how: Text = ""

class Purged(Contract):
    task_id: Id

class Renamed(Contract):
    name: Text

async def purge(transaction: HandlerTransaction, commands: list[Received[Purge]]) -> list[Outcome]:
    outcomes = []
    for command in commands:
        body = command.body
        if body.how == "fail":
            raise RuntimeError("the disk is full")
        if body.how == "never":
            raise Never("nobody can purge that")
        if body.how == "forget":
            return []
        found = await transaction.value("SELECT title FROM {app}.tasks WHERE id = :id", {"id": body.task_id})
        if found is None:
            outcomes.append(Outcome.rejected(f"task {body.task_id} does not exist"))
            continue
        sql = "INSERT INTO {app}.purged (task_id) VALUES (:id)"
        rows = await transaction.execute(sql, {"id": body.task_id})
        await transaction.publish(Purged(task_id=body.task_id), cause=command)
        outcomes.append(Outcome.done(rows=rows, title=found))
    return outcomes

async def renamed(transaction: HandlerTransaction, events: list[Received[Renamed]]) -> None:
    for event in events:
        await transaction.execute("INSERT INTO {app}.renamed (name) VALUES (:name)", {"name": event.body.name})
    if any(event.body.name == "bad" for event in events):
        raise ValueError("a bad name")

extension = Extension(
    messages=(
        Message(
            "maintenance.purge_attachments", "command", Purge, "anyone", "purge", "maintenance", by_anyone=True
        ),
        Message(
            "attachments.purged", "event", Purged, "maintenance", "they are gone", None, by_anyone=False,
            published_by=("maintenance",),
        ),
        Message("project.renamed", "event", Renamed, "anyone", "a new name", "maintenance", by_anyone=True),
    ),
    grants=(Grant("maintenance", "app.purged", ("INSERT",)),),
    handlers=(Handler(Purge, purge, batch=10), Handler(Renamed, renamed, batch=10)),
)
"""


@pytest_asyncio.fixture(autouse=True)
async def _attachments(maintenance: Maintenance, broker_url: str, tmp_path: Path) -> AsyncIterator[None]:
    """The package is installed, with its tables and queues."""
    with packages_in(tmp_path / "site") as packages:
        packages.install("acme-attachments", SOURCE)
        await declare(broker_url)
        await maintenance.execute("CREATE TABLE purged (task_id bigint); CREATE TABLE renamed (name text)")
        yield


async def outcomes(maintenance: Maintenance) -> dict[str, tuple[str, str | None]]:
    rows = await maintenance.rows("SELECT message_id, state, reason FROM taskbell.command")
    return {row["message_id"]: (row["state"], row["reason"]) for row in rows}


async def test_a_command_takes_effect_once_with_its_outcome_and_its_event(
    maintenance: Maintenance, database_url: str, broker_url: str, management: Management
) -> None:
    tasks = [await maintenance.task(title=f"Task {number}") for number in range(5)]
    listener = await management.listen(EVENTS, "attachments.purged")
    for _ in range(3):
        for task in tasks:
            body, properties = {"task_id": task}, {"message_id": f"m{task}", "correlation_id": f"c{task}"}
            assert await management.publish(COMMANDS, PURGE, body, properties=properties)
    async with running(database_url, broker_url) as process:
        await eventually(lambda: _handled(process, PURGE) == 15, what="every delivery is handled")
        await eventually(lambda: _published(maintenance, 5), what="every event is out")
    assert await outcomes(maintenance) == {f"m{task}": ("done", None) for task in tasks}
    stored = await maintenance.value("SELECT result FROM taskbell.command WHERE message_id = $1", f"m{tasks[2]}")
    assert stored == {"rows": 1, "title": "Task 2"}
    assert sorted(row["task_id"] for row in await maintenance.rows("SELECT task_id FROM purged")) == tasks
    events = await management.take(listener)
    assert sorted((it.json()["task_id"], it.properties["correlation_id"]) for it in events) == [
        (task, f"c{task}") for task in tasks
    ]


async def test_whoever_asked_is_answered(maintenance: Maintenance, database_url: str, broker_url: str) -> None:
    from acme_attachments import Purge  # type: ignore[import-not-found]

    task = await maintenance.task(title="One")
    async with running(database_url, broker_url), AsyncClient(broker_url, timeout=30) as client:
        done = await client.request(Purge(task_id=task))
        refused = await client.request(Purge(task_id=task + 1))
    assert (done.state, done.result) == ("done", {"rows": 1, "title": "One"})
    assert (refused.state, refused.reason) == ("rejected", f"task {task + 1} does not exist")


async def test_what_cannot_take_effect_goes_to_the_dead_letters_and_an_error_to_the_ladder(
    maintenance: Maintenance, database_url: str, broker_url: str, management: Management
) -> None:
    task = await maintenance.task()
    for how in ("fine", "fail", "never", "forget"):
        await management.publish(COMMANDS, PURGE, {"task_id": task, "how": how}, properties={"message_id": how})
    await management.publish(COMMANDS, PURGE, {"task_id": "one"}, properties={"message_id": "invalid"})
    async with running(database_url, broker_url):
        await eventually(lambda: _depth(management, "taskbell.retry.10s", 2), what="two are to be tried again")
        await eventually(lambda: _depth(management, "maintenance.dead", 2), what="two are dead")
        await eventually(lambda: _states(maintenance, 3))
    assert await outcomes(maintenance) == {
        "fine": ("done", None),
        "never": ("failed", "nobody can purge that"),
        "invalid": ("rejected", "task_id: Input should be a valid integer"),
    }
    assert len(await maintenance.rows("SELECT FROM purged")) == 1
    reasons = {it.properties["message_id"]: it.headers for it in await management.take("maintenance.dead")}
    assert reasons["never"]["x-taskbell-reason"] == "nobody can purge that"
    assert reasons["invalid"]["x-taskbell-reason"] == "task_id: Input should be a valid integer"


async def test_events_of_a_set_are_written_together_and_a_bad_one_is_tried_again_alone(
    maintenance: Maintenance, database_url: str, broker_url: str, management: Management
) -> None:
    for name in ("a", "bad", "b"):
        await management.publish(EVENTS, "project.renamed", {"name": name})
    await management.publish(EVENTS, "project.renamed", "not JSON")
    async with running(database_url, broker_url) as process:
        await eventually(lambda: _depth(management, "taskbell.retry.10s", 1), what="the bad one is to be tried again")
        await eventually(lambda: _depth(management, "maintenance.dead", 1), what="the one that is not JSON is dead")
        await eventually(lambda: _handled(process, RENAMED) == 2)
    assert sorted(row["name"] for row in await maintenance.rows("SELECT name FROM renamed")) == ["a", "b"]
    assert await outcomes(maintenance) == {}
    (waiting,) = await management.take("taskbell.retry.10s")
    assert json.loads(waiting.body) == {"name": "bad"}


async def test_with_the_role_and_the_user_that_setup_makes_it_works_once_it_is_granted(
    maintenance: Maintenance, servers: ServerUrls, database_url: str, vhost: Vhost, tmp_path: Path
) -> None:
    task = await maintenance.task(title="One")
    listener = await vhost.management.listen(EVENTS, "attachments.purged")
    given = {
        "DATABASE_URL": database_url,
        "BROKER_URL": vhost.url,
        "BROKER_MANAGEMENT_URL": vhost.management.url,
        "MAINTENANCE_DATABASE_PASSWORD": PASSWORD,
        "MAINTENANCE_BROKER_PASSWORD": PASSWORD,
        "PYTHONPATH": Packages(tmp_path / "site").path,
    }
    async with sole_use_of_logins(servers):
        login = "taskbell_maintenance", PASSWORD
        urls = as_user(database_url, *login), as_user(vhost.url, *login)
        assert (await taskbell("setup", **given)).status == 0
        await vhost.management.publish(COMMANDS, PURGE, {"task_id": task}, properties={"message_id": "m"})
        async with running(*urls):
            await eventually(lambda: _depth(vhost.management, "taskbell.retry.10s", 1), what="it has no right")
        await vhost.management.take("taskbell.retry.10s")
        assert await outcomes(maintenance) == {}

        assert (await taskbell("setup", "--grant", "acme-attachments", **given)).status == 0
        await vhost.management.publish(COMMANDS, PURGE, {"task_id": task}, properties={"message_id": "m"})
        async with running(*urls):
            await eventually(lambda: _published(maintenance, 1), what="its event is out")
    assert await outcomes(maintenance) == {"m": ("done", None)}
    assert len(await vhost.management.take(listener)) == 1


async def _depth(management: Management, queue: str, number: int) -> bool:
    return (await management.depth(queue)).ready == number


def _handled(process: Process, queue: str) -> float:
    """How many messages of that queue were handled."""
    known = {"queue": queue, "fate": "done"}
    return process.metrics.registry.get_sample_value("taskbell_messages_total", known) or 0


async def _published(maintenance: Maintenance, number: int) -> bool:
    sql = "SELECT count(*) FILTER (WHERE published_at IS NOT NULL) = $1 AND count(*) = $1 FROM taskbell.outbox"
    return bool(await maintenance.value(sql, number))


async def _states(maintenance: Maintenance, number: int) -> bool:
    return bool(await maintenance.value("SELECT count(*) = $1 FROM taskbell.command", number))
