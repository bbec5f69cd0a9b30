"""What each login can make happen to others: the list in docs/permissions.md, tried on an installation that works."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiormq
import pytest
import pytest_asyncio
from aiormq.abc import AbstractChannel
from tests.support.command import taskbell
from tests.support.inbox import Inbox
from tests.support.installation import Installation
from tests.support.roles import PASSWORD, Roles, all_roles, allows, as_user, connected
from tests.support.servers import ServerUrls
from tests.support.waiting import eventually

DAY = timedelta(days=1)
STRANGER = "taskbell_stranger"
PEOPLE = range(1, 6)
PRIVATE = ("delivery", "mailing", "command", "outbox", "occurrence", "preference", "suppression", "report")


@pytest_asyncio.fixture(scope="module")
async def roles(servers: ServerUrls) -> AsyncIterator[Roles]:
    async with all_roles(servers) as roles, connected(roles.admin_url) as admin:
        await admin.execute(f"CREATE ROLE {STRANGER} LOGIN PASSWORD '{PASSWORD}'")
        await roles.vhost.management.call("PUT", f"/users/{STRANGER}", {"password": PASSWORD, "tags": ""})
        try:
            yield roles
        finally:
            await roles.vhost.management.call("DELETE", f"/users/{STRANGER}")
            await admin.execute(f"DROP ROLE {STRANGER}")


@pytest_asyncio.fixture(scope="module")
async def installation(roles: Roles) -> AsyncIterator[Installation]:
    """All services, each under its own role; each person has a task that is overdue."""
    inbox = Inbox()
    await inbox.start()
    installation = Installation(roles.admin_url, roles.vhost, inbox, roles)
    await installation.insert(
        "users",
        [{"id": n, "name": f"P{n}", "email": f"p{n}@example.org", "is_active": True} for n in PEOPLE],
    )
    due = datetime.now(UTC) - DAY
    await installation.insert(
        "tasks", [{"id": n, "title": f"Task {n}", "assignee_id": n, "due_date": due} for n in PEOPLE]
    )
    try:
        await installation.start("notifier", "maintenance")
        yield installation
    finally:
        await installation.stop()
        await inbox.stop()


@asynccontextmanager
async def broker_of(roles: Roles, role: str) -> AsyncIterator[AbstractChannel]:
    """A channel with publisher confirms, of that role."""
    connection = await aiormq.connect(roles.broker_url(role))
    try:
        yield await connection.channel()
    finally:
        await connection.close()


async def publish(
    channel: AbstractChannel, exchange: str, key: str, body: Any, message_id: str, **headers: Any
) -> None:
    properties = aiormq.spec.Basic.Properties(message_id=message_id, headers=headers, delivery_mode=2)
    await channel.basic_publish(json.dumps(body).encode(), exchange=exchange, routing_key=key, properties=properties)


async def updated(installation: Installation, roles: Roles, task: int, message_id: str) -> Any:
    """The outcome of a status command that somebody else gives; it must come in time."""
    done = await taskbell(
        "publish",
        "maintenance.update_task_status",
        json.dumps({"task_id": task, "new_status": "in_progress"}),
        "--message-id",
        message_id,
        "--wait",
        "30",
        "--json",
        BROKER_URL=roles.broker_url("operator"),
    )
    assert done.out, done.err
    return done.json()["outcome"]


async def dead_letter(installation: Installation, service: str, message_id: str) -> str:
    """The reason of the dead letter with that message_id."""

    async def reason() -> str | None:
        for message in await installation.management.take(f"{service}.dead"):
            if message.properties.get("message_id") == message_id:
                return str(message.headers["x-taskbell-reason"])
        return None

    return await eventually(reason, what=f"the dead letter {message_id}")


# --- a login without any grant


async def test_a_login_without_grants_reads_and_calls_nothing(roles: Roles) -> None:
    async with connected(as_user(roles.admin_url, STRANGER, PASSWORD)) as stranger:
        for table in PRIVATE:
            assert not await allows(stranger, f"SELECT FROM taskbell.{table}")
        assert not await allows(stranger, "SELECT taskbell.enqueue('weekly.due', '{}')")
        assert not await allows(stranger, "SELECT FROM public.tasks")
        assert not await allows(stranger, "LOCK TABLE public.tasks IN ACCESS SHARE MODE")


async def test_its_advisory_locks_hold_up_nobody(installation: Installation, roles: Roles) -> None:
    async with connected(as_user(roles.admin_url, STRANGER, PASSWORD)) as stranger:
        await stranger.execute("SELECT pg_advisory_lock(hashtextextended('under-lock', 0))")
        await stranger.execute("SELECT pg_advisory_lock(hashtext('under-lock'))")
        outcome = await updated(installation, roles, 5, "under-lock")
    assert outcome["state"] == "done"


async def test_it_cannot_enter_the_virtual_host(roles: Roles) -> None:
    url = as_user(roles.vhost.url, STRANGER, PASSWORD)
    with pytest.raises(aiormq.exceptions.AMQPError):
        await aiormq.connect(url)


# --- the web app


@pytest.mark.parametrize("header", ["CC", "BCC"])
async def test_the_app_reaches_no_queue_by_copies(installation: Installation, roles: Roles, header: str) -> None:
    key = "maintenance.generate_task_report"
    connection = await aiormq.connect(roles.broker_url("app"))
    try:
        channel = await connection.channel()
        await publish(channel, "taskbell.commands", key, {}, f"by {header}", **{header: ["notifier.send_batch"]})
    except aiormq.exceptions.ChannelAccessRefused:
        # RabbitMQ 4 asks for permission on the keys of copies, too.
        return
    finally:
        await connection.close()
    reason = await dead_letter(installation, "notifier", f"by {header}")
    assert f"came from exchange 'taskbell.commands' under '{key}'" in reason


@pytest.mark.parametrize("role", ["app", "operator"])
@pytest.mark.parametrize(
    ("exchange", "key"),
    [
        ("taskbell.commands", "notifier.send_batch"),
        ("taskbell.events", "task.status_changed"),
        ("taskbell.events", "mail.failed"),
        ("taskbell.events", "report.generated"),
        ("", "notifier.send_batch"),
        ("taskbell.retry.10s", "maintenance.update_task_status"),
    ],
)
async def test_app_and_operator_publish_only_what_anyone_may(roles: Roles, role: str, exchange: str, key: str) -> None:
    connection = await aiormq.connect(roles.broker_url(role))
    try:
        channel = await connection.channel()
        with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
            await publish(channel, exchange, key, {}, "not allowed")
    finally:
        await connection.close()


async def test_the_app_cannot_take_an_occurrence_beforehand(installation: Installation, roles: Roles) -> None:
    """Its event waits in the retry queue; the same event without that time starts its mailing."""
    coming = (datetime.now(UTC) + 7 * DAY).isoformat()
    body = {"occurrence": coming, "timezone": "UTC", "user_ids": []}
    async with broker_of(roles, "app") as channel:
        await publish(channel, "taskbell.events", "weekly.due", body, "to come")

        async def waits() -> bool:
            depths = [await installation.management.depth(f"taskbell.retry.{rung}") for rung in ("10s", "1m", "10m")]
            return any(depth.ready for depth in depths)

        await eventually(waits, what="the event in a retry queue")
        await publish(channel, "taskbell.events", "weekly.due", {"user_ids": []}, "now")

    async def started() -> set[str]:
        rows = await installation.rows("SELECT message_id FROM taskbell.mailing WHERE message_id IN ('to come', 'now')")
        return {row["message_id"] for row in rows}

    assert await eventually(started) == {"now"}


async def test_a_taken_message_id_is_told_to_whoever_comes_second(installation: Installation, roles: Roles) -> None:
    body = '{"task_id": 3, "new_status": "in_progress"}'
    async with connected(roles.database_url("app")) as app:
        await app.execute("SELECT taskbell.enqueue('maintenance.update_task_status', $1, 'taken')", body)

    async def carried_out() -> bool:
        return bool(await installation.value("SELECT status FROM tasks WHERE id = 3") == "in_progress")

    await eventually(carried_out, what="the first command")
    outcome = await updated(installation, roles, 2, "taken")
    assert outcome["state"] == "rejected"
    assert "another message's" in outcome["reason"]
    assert await installation.value("SELECT status FROM tasks WHERE id = 2") != "in_progress"


# --- the services, one against the others


async def test_the_notifier_forges_a_message_to_maintenance_by_the_default_exchange(
    installation: Installation, roles: Roles
) -> None:
    """It can, as the list says: what maintenance does to tasks, the notifier can have done."""
    async with broker_of(roles, "notifier") as channel:
        await publish(
            channel, "", "maintenance.update_task_status", {"task_id": 1, "new_status": "cancelled"}, "by the notifier"
        )

    async def cancelled() -> bool:
        return bool(await installation.value("SELECT status FROM tasks WHERE id = 1") == "cancelled")

    await eventually(cancelled, what="the forged command")


async def test_a_forged_batch_mails_nobody_twice(installation: Installation, roles: Roles) -> None:
    async with broker_of(roles, "app") as channel:
        await publish(channel, "taskbell.events", "overdue.due", {"user_ids": [2]}, "overdue for 2")

    async def sent() -> int | None:
        found: int | None = await installation.value("SELECT id FROM taskbell.delivery WHERE state = 'sent'")
        return found

    row = await eventually(sent, what="the mail")
    async with broker_of(roles, "maintenance") as channel:
        for number in range(5):
            await publish(channel, "", "notifier.send_batch", {"delivery_ids": [row]}, f"forged {number}")

    async def all_handled() -> bool:
        return (await installation.management.depth("notifier.send_batch")).ready == 0

    await eventually(all_handled, what="the forged batches")
    await installation.stop("notifier")
    assert [mail.recipients for mail in installation.inbox.mails].count(("p2@example.org",)) == 1
    await installation.start("notifier")


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("scheduler", "SELECT title FROM public.tasks"),
        ("scheduler", "SELECT email FROM public.users"),
        ("scheduler", "UPDATE taskbell.delivery SET state = 'sent'"),
        ("scheduler", "INSERT INTO taskbell.mailing DEFAULT VALUES"),
        ("notifier", "UPDATE public.tasks SET status = 'done'"),
        ("notifier", "INSERT INTO taskbell.occurrence DEFAULT VALUES"),
        ("maintenance", "SELECT email FROM public.users"),
        ("maintenance", "UPDATE taskbell.delivery SET state = 'sent'"),
        ("maintenance", "SELECT FROM taskbell.archived_task"),
        ("app", "SELECT FROM taskbell.occurrence"),
        ("app", "INSERT INTO taskbell.outbox DEFAULT VALUES"),
        ("operator", "UPDATE taskbell.delivery SET state = 'sent'"),
        ("operator", "INSERT INTO taskbell.outbox DEFAULT VALUES"),
    ],
)
async def test_no_role_does_the_work_of_another(roles: Roles, role: str, statement: str) -> None:
    async with connected(roles.database_url(role)) as login:
        assert not await allows(login, statement)


@pytest.mark.parametrize("role", ["scheduler", "app", "maintenance", "notifier", "operator"])
async def test_no_role_takes_messages_of_anothers_queue(roles: Roles, role: str) -> None:
    queue = "maintenance.update_task_status" if role != "maintenance" else "notifier.send_batch"
    connection = await aiormq.connect(roles.broker_url(role))
    try:
        channel = await connection.channel()
        with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
            await channel.basic_get(queue)
    finally:
        await connection.close()
