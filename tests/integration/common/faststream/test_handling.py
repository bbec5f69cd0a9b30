"""Other people's FastStream app on real servers: our retries, dead letters, and each message_id once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from aiormq.exceptions import ChannelNotFoundEntity
from tests.integration.common.faststream.timesheets import DEAD, QUEUE, TABLES, Timesheets
from tests.support.management import Management, Message
from tests.support.packages import TIMESHEETS, packages_in
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell.client import AsyncClient
from taskbell.contracts import GenerateTaskReport, TaskStatusChanged
from taskbell.errors import Unroutable
from taskbell.extensions import installed
from taskbell.faststream import handling
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.setup.broker import declare
from taskbell.setup.privileges import access_of

KEY = "task.status_changed"


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path) -> Iterator[None]:
    with packages_in(tmp_path / "site") as packages:
        packages.install("acme-timesheets", TIMESHEETS)
        yield


@dataclass
class World:
    """The servers, with the package's queues and tables, and a service of ours that publishes events."""

    vhost: Vhost
    database_url: str
    publisher: Publisher

    @property
    def management(self) -> Management:
        return self.vhost.management

    async def changed(self, task: int, message_id: str, *, body: bytes | None = None, **more: object) -> None:
        """A task is done, which our maintenance tells."""
        event = TaskStatusChanged(task_id=task, old_status="pending", new_status="done", requested_by=None)
        given = {"correlation_id": "c-1", "type": KEY} | more
        await self.publisher.publish(
            Outgoing("taskbell.events", KEY, body or event.to_bytes(), message_id, mandatory=True, **given)  # type: ignore[arg-type]
        )

    async def returns(self, task: int, message_id: str, attempt: int) -> None:
        """The event comes back from the ladder: from the default exchange, under its queue's name."""
        event = TaskStatusChanged(task_id=task, old_status="pending", new_status="done", requested_by=None)
        headers = {
            "x-taskbell-attempt": attempt,
            "x-taskbell-exchange": "taskbell.events",
            "x-taskbell-routing-key": KEY,
        }
        await self.publisher.publish(
            Outgoing("", QUEUE, event.to_bytes(), message_id, mandatory=True, type=KEY, headers=headers)
        )

    async def ready(self, queue: str) -> int:
        return (await self.management.depth(queue)).ready

    async def is_empty(self, queue: str) -> bool:
        """Whether all its messages are with a consumer, or gone."""
        return await self.ready(queue) == 0

    async def one_in(self, queue: str) -> Message:
        """The only message there, once it is there; it is taken."""
        await eventually(lambda: self._has_one(queue), what=f"a message in {queue}")
        (message,) = await self.management.take(queue)
        return message

    async def _has_one(self, queue: str) -> bool:
        return await self.ready(queue) == 1


@pytest_asyncio.fixture
async def world(vhost: Vhost, empty_database_url: str) -> AsyncIterator[World]:
    await declare(vhost.url)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(TABLES)
    await connection.close()
    publisher = Publisher(vhost.url, name="test")
    yield World(vhost, empty_database_url, publisher)
    await publisher.close()


@pytest.fixture
def app(world: World) -> Timesheets:
    return Timesheets(world.vhost.url, world.database_url)


async def test_one_that_failed_waits_on_the_ladder_comes_back_and_takes_effect(world: World, app: Timesheets) -> None:
    async def fail_once(task: TaskStatusChanged) -> None:
        app.before = None
        raise ValueError("bad luck")

    app.before = fail_once
    async with app.running():
        await world.changed(7, "m-1")
        await eventually(lambda: world.ready("taskbell.retry.10s"), what="the message on the ladder")
        assert await app.entries() == [], "what a failed try wrote is undone"
        await app.until(entries=1)
    first, second = app.tries
    assert (first.attempt, second.attempt) == (0, 1)
    assert (second.message_id, second.correlation_id, second.type) == ("m-1", "c-1", KEY)
    assert (second.exchange, second.routing_key) == ("taskbell.events", KEY)
    assert await world.ready(QUEUE) == await world.ready(DEAD) == 0


async def test_after_the_last_try_it_is_dead_with_the_reason(world: World, app: Timesheets) -> None:
    async def fail(_: TaskStatusChanged) -> None:
        raise ValueError("bad luck")

    app.before = fail
    async with app.running():
        await world.returns(7, "m-1", 3)
        dead = await world.one_in(DEAD)
    assert dead.headers == {
        "x-taskbell-attempt": 3,
        "x-taskbell-exchange": "taskbell.events",
        "x-taskbell-queue": QUEUE,
        "x-taskbell-reason": "failed 4 times; at last: ValueError: bad luck",
        "x-taskbell-routing-key": KEY,
    }
    assert (dead.properties["message_id"], dead.properties["type"]) == ("m-1", KEY)
    assert dead.properties["delivery_mode"] == 2
    assert await world.ready(QUEUE) == 0


async def test_a_body_that_does_not_validate_is_dead_and_disturbs_nobody(world: World, app: Timesheets) -> None:
    async with app.running():
        await world.changed(7, "m-1", body=b'{"task_id": "seven"}')
        await world.changed(8, "m-2")
        dead = await world.one_in(DEAD)
        await app.until(entries=1)
    assert dead.body == b'{"task_id": "seven"}'
    assert dead.headers["x-taskbell-reason"].startswith("task_id: Input should be a valid integer")
    assert await app.entries() == [(8, "done")]


async def test_a_repeated_message_takes_effect_once_also_beside_itself(world: World, app: Timesheets) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: TaskStatusChanged) -> None:
        begun.set()
        await go_on.wait()

    app.before = wait
    async with app.running():
        for _ in range(3):
            await world.changed(7, "m-1")
        await begun.wait()
        await eventually(lambda: world.is_empty(QUEUE), what="all three with the app")
        go_on.set()
        await world.changed(8, "m-2")
        await app.until(entries=2)
        await eventually(lambda: _all_settled(world))
    assert await app.entries() == [(7, "done"), (8, "done")]
    assert [envelope.message_id for envelope in app.tries] == ["m-1", "m-2"]
    assert await world.ready(QUEUE) == await world.ready(DEAD) == await world.ready("taskbell.retry.10s") == 0


async def _all_settled(world: World) -> bool:
    found = await world.management.call("GET", f"/queues/{{vhost}}/{QUEUE}")
    return bool(found.get("messages") == 0)


async def test_what_was_handled_long_ago_is_forgotten(world: World, app: Timesheets) -> None:
    async with app.running():
        await world.changed(7, "m-1")
        await app.until(entries=1)
        assert await app.handled.prune(timedelta(hours=1)) == 0
        assert await app.handled.prune(timedelta(0)) == 1
        await world.changed(7, "m-1")
        await app.until(entries=2)


async def test_while_its_database_is_away_messages_wait_and_no_try_is_counted(world: World) -> None:
    app = Timesheets(world.vhost.url, "postgresql://nobody@127.0.0.1:1/none")
    async with app.running():
        await world.returns(7, "m-1", 2)
        waiting = await world.one_in("taskbell.retry.10s")
    assert waiting.headers["x-taskbell-attempt"] == 2
    assert app.tries == []


async def test_while_its_way_out_is_gone_a_failed_message_is_held(
    world: World, app: Timesheets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "PAUSE", 0.1)
    await world.management.call("DELETE", f"/queues/{{vhost}}/{DEAD}")
    async with app.running():
        await world.changed(7, "m-1", body=b"{}")
        await world.changed(8, "m-2")
        await app.until(entries=1)
        await declare(world.vhost.url)
        assert (await world.one_in(DEAD)).properties["message_id"] == "m-1"


async def test_one_that_can_be_moved_nowhere_goes_back_to_its_queue(
    world: World, app: Timesheets, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: TaskStatusChanged) -> None:
        raise ValueError("bad luck")

    monkeypatch.setattr(handling, "PAUSE", 0.1)
    monkeypatch.setattr(handling, "HOLD", 0.3)
    await world.management.call("DELETE", "/queues/{vhost}/taskbell.retry.10s")
    app.before = fail
    async with app.running():
        await world.changed(7, "m-1")
        await eventually(lambda: len(app.tries) == 2, what="a second try")
    assert [envelope.redelivered for envelope in app.tries] == [False, True]
    assert await eventually(lambda: world.ready(QUEUE)) == 1


async def test_it_publishes_our_commands_persistently_with_ids_and_type(world: World, app: Timesheets) -> None:
    reports = app.router.publishes(GenerateTaskReport)
    async with app.running():
        message_id = await reports.publish(GenerateTaskReport(), correlation_id="c-9")
        command = await world.one_in("maintenance.generate_task_report")
        await world.management.call("DELETE", "/queues/{vhost}/maintenance.generate_task_report")
        with pytest.raises(Unroutable) as caught:
            await reports.publish(GenerateTaskReport(), message_id="m-lost")
    assert caught.value.message_id == "m-lost"
    assert command.json() == {}
    assert command.properties["message_id"] == message_id
    assert command.properties["correlation_id"] == "c-9"
    assert command.properties["type"] == "maintenance.generate_task_report"
    assert command.properties["delivery_mode"] == 2


async def test_a_web_app_that_asks_gets_the_outcome_of_the_apps_own_command(world: World, app: Timesheets) -> None:
    from acme_timesheets import Approve  # type: ignore[import-not-found]

    app.approves(Approve)
    async with app.running(), AsyncClient(world.vhost.url) as client:
        outcome = await client.request(Approve(entry_id=7), message_id="m-1")
        again = await client.request(Approve(entry_id=7), message_id="m-1")
    assert (outcome.state, outcome.result) == ("done", {"approved": 7})
    assert again == outcome


async def test_without_its_queue_it_does_not_start(world: World, app: Timesheets) -> None:
    await world.management.call("DELETE", f"/queues/{{vhost}}/{QUEUE}")
    with pytest.raises(ChannelNotFoundEntity, match=QUEUE):
        async with app.running():
            pass


async def test_it_needs_no_more_rights_than_setup_gives_its_user(world: World) -> None:
    user, access = f"test-{uuid4().hex[:12]}", access_of("timesheets", installed())
    await world.management.call("PUT", f"/users/{user}", {"password": "secret", "tags": ""})
    try:
        rights = {"configure": "^$", "write": access.write, "read": access.read}
        await world.management.call("PUT", f"/permissions/{{vhost}}/{user}", rights)
        for exchange, keys in access.topics.items():
            topic = {"exchange": exchange, "write": keys, "read": "^$"}
            await world.management.call("PUT", f"/topic-permissions/{{vhost}}/{user}", topic)
        parts = urlsplit(world.vhost.url)
        url = parts._replace(netloc=f"{user}:{quote('secret')}@{parts.hostname}:{parts.port}").geturl()
        app = Timesheets(url, world.database_url)
        async with app.running():
            await world.changed(7, "m-1", body=b"{}")
            await world.changed(8, "m-2")
            await app.until(entries=1)
            assert (await world.one_in(DEAD)).properties["message_id"] == "m-1"
    finally:
        await world.management.call("DELETE", f"/users/{user}")


async def test_a_copy_that_another_messages_publisher_asked_for_is_dead(world: World, app: Timesheets) -> None:
    async with app.running():
        event = TaskStatusChanged(task_id=7, old_status="pending", new_status="done", requested_by=None)
        forged = {"CC": [KEY], "x-taskbell-attempt": 2, "x-taskbell-routing-key": KEY}
        await world.publisher.publish(
            Outgoing("taskbell.events", "mail.failed", event.to_bytes(), "m-1", headers=forged)
        )
        dead = await world.one_in(DEAD)
        await world.changed(8, "m-2", headers={"x-taskbell-attempt": 2, "x-taskbell-size": 7})
        await app.until(entries=1)
    assert dead.headers == {
        "x-taskbell-attempt": 0,
        "x-taskbell-exchange": "taskbell.events",
        "x-taskbell-queue": QUEUE,
        "x-taskbell-reason": f"came from exchange 'taskbell.events' under 'mail.failed', but {QUEUE} takes only what "
        f"comes from taskbell.events under {KEY}",
        "x-taskbell-routing-key": "mail.failed",
    }
    assert await app.entries() == [(8, "done")]
    assert [it.attempt for it in app.tries] == [0]


async def test_a_body_that_is_too_large_is_dead_with_its_beginning_and_its_size(world: World, app: Timesheets) -> None:
    body = b'{"x": "' + b"y" * 3 * 1024 * 1024 + b'"}'
    async with app.running():
        await world.changed(7, "m-1", body=body)
        dead = await world.one_in(DEAD)
    assert dead.body == body[:1024]
    assert dead.headers["x-taskbell-size"] == len(body)
    assert dead.headers["x-taskbell-reason"] == f"body of {len(body)} bytes is larger than 2097152"
