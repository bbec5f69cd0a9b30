"""Whoever asked is gone, or may not be answered: a command's effect and its ack stand."""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import pytest

from tests.chaos.support.figures import Figures
from tests.chaos.support.mail_scenario import COMMANDS, MailScenario, mail_scenario
from tests.chaos.support.plan import Plan
from tests.support.roles import as_user
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

COMMAND_QUEUES = ("maintenance.update_task_status", "notifier.send_test_mail")
OTHER_QUEUES = ("notifier.dead", "maintenance.dead", "notifier.reminder_due", "taskbell.retry.10s")
GONE = ("reply.gone", "amq.gen-gone", "amq.rabbitmq.reply-to.gone", "deleted", "hung up")
NOT_FOR_REPLIES = ("maintenance.dead", "notifier.reminder_due", "notifier.send_test_mail", "nobody's", "r" * 255)
PASSWORD = "a password of the tests"


@asynccontextmanager
async def user_without_replies(vhost: Vhost) -> AsyncIterator[str]:
    """The broker's URL as a user who may do all that the services must, but not write to the default exchange."""
    name = f"mute-{uuid.uuid4().hex[:12]}"
    call = vhost.management.call
    await call("PUT", f"/users/{name}", {"password": PASSWORD, "tags": ""})
    try:
        rights = {"configure": "", "write": r"^taskbell\..*", "read": ".*"}
        await call("PUT", f"/permissions/{{vhost}}/{name}", rights)
        yield as_user(vhost.url, name, PASSWORD)
    finally:
        await call("DELETE", f"/users/{name}")


async def ask(url: str, reply_to: str, commands: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Sends commands as a client does that wants to be answered there, and is gone when it is."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        if reply_to == "deleted":
            queue = await channel.declare_queue(exclusive=True)
            await queue.delete()
            reply_to = queue.name
        elif reply_to == "hung up":
            reply_to = "amq.rabbitmq.reply-to"
            queue = await channel.get_queue(reply_to, ensure=False)
            await queue.consume(unheard, no_ack=True)
        exchange = await channel.get_exchange(COMMANDS, ensure=False)
        for key, message_id, body in commands:
            message = aio_pika.Message(json.dumps(body).encode(), message_id=message_id, reply_to=reply_to)
            await exchange.publish(message, key)


async def unheard(_: object) -> None:
    """Whoever listens hangs up before there is anything to hear."""


async def ended(scenario: MailScenario, expected: dict[str, tuple[str, int]]) -> bool:
    scenario.installation.check_running()
    rows = await scenario.installation.rows("SELECT message_id, state, attempts FROM taskbell.command")
    found = {row["message_id"]: (row["state"], row["attempts"]) for row in rows}
    assert found == expected, set(found.items()) ^ set(expected.items())
    return True


@pytest.mark.parametrize("refused", [False, True], ids=["nobody there", "not allowed to"])
async def test_a_command_whose_answer_reaches_nobody_took_effect_and_is_never_delivered_again(
    refused: bool, database_url: str, vhost: Vhost, plan: Plan, figures: Figures
) -> None:
    targets = ("reply.alive",) if refused else (*GONE, *NOT_FOR_REPLIES)
    times = plan.pick(quick=2, full=40)
    async with mail_scenario(database_url, vhost) as scenario, user_without_replies(vhost) as mute:
        await scenario.people(*(f"{target}-{number}" for target in targets for number in range(times)))
        await vhost.management.call("PUT", "/queues/{vhost}/reply.alive", {"durable": True, "arguments": {}})
        await scenario.start("notifier", "maintenance", **({"BROKER_URL": mute} if refused else {}))
        tasks = [row["id"] for row in await scenario.installation.rows("SELECT id FROM tasks ORDER BY id")]
        commands: list[tuple[str, str, dict[str, Any]]] = []
        for target in targets:
            some: list[tuple[str, str, dict[str, Any]]] = []
            for number in range(times):
                unique = f"{targets.index(target)}-{number}"
                body: dict[str, Any] = {"task_id": tasks[len(commands) + number], "new_status": "done"}
                some.append((COMMAND_QUEUES[0], f"status-{unique}", body))
                some.append((COMMAND_QUEUES[1], f"mail-{unique}", {"to": f"ops-{unique}@example.org"}))
            await ask(vhost.url, target, some)
            commands += some
        expected = {message_id: ("done", 1) for _, message_id, _ in commands}
        await eventually(lambda: ended(scenario, expected))
        wanted = {body["to"]: 1 for _, _, body in commands if "to" in body}
        await eventually(lambda: sum(scenario.taken_by_address().values()) >= len(wanted))
        for service in ("notifier", "maintenance"):
            if refused:
                await eventually(lambda: scenario.installation.has_said(service, "reply.failed"))  # noqa: B023 - awaited at once
        # What was not acknowledged lies in its queue again once its consumer is gone.
        for service in ("notifier", "maintenance"):
            await scenario.installation.stop(service)
        depths = {queue: (await vhost.management.depth(queue)).ready for queue in (*COMMAND_QUEUES, *OTHER_QUEUES)}
        assert depths == dict.fromkeys(depths, 0)
        assert scenario.taken_by_address() == wanted
        done = await scenario.installation.value("SELECT count(*) FROM tasks WHERE status = 'done'")
        assert done == len(commands) // 2
        if refused:
            assert (await vhost.management.depth("reply.alive")).ready == 0
    figures.note("answers that reach nobody", "commands whose effect and ack stood", len(commands))
