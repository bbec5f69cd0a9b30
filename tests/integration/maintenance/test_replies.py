"""Outcomes go to whoever asked; if they cannot be sent, the command's effect and its ack stand."""

import asyncio
import json
from functools import partial
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from tests.integration.maintenance.service import running
from tests.integration.maintenance.use_cases import Maintenance
from tests.support.management import Management
from tests.support.waiting import eventually

UPDATE = "maintenance.update_task_status"
ENDED = "SELECT FROM taskbell.command WHERE message_id = $1"


async def _publish(channel: aio_pika.abc.AbstractChannel, body: dict[str, Any], reply_to: str, **more: Any) -> None:
    exchange = await channel.get_exchange("taskbell.commands", ensure=False)
    message = aio_pika.Message(json.dumps(body).encode(), reply_to=reply_to, **more)
    await exchange.publish(message, UPDATE)


@pytest.mark.parametrize("reply_to", ["amq.rabbitmq.reply-to", "reply.web-1", "generated"])
async def test_the_outcome_comes_to_where_it_was_asked_for(
    maintenance: Maintenance, database_url: str, broker_url: str, reply_to: str
) -> None:
    task = await maintenance.task()
    replies: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    async with running(database_url, broker_url), await aio_pika.connect(broker_url) as connection:
        channel = await connection.channel()
        if reply_to == "amq.rabbitmq.reply-to":
            queue = await channel.get_queue(reply_to, ensure=False)
        else:
            name = None if reply_to == "generated" else reply_to
            queue = await channel.declare_queue(name, exclusive=True)
        await queue.consume(replies.put, no_ack=True)
        body = {"task_id": task, "new_status": "done"}
        await _publish(channel, body, queue.name, message_id="m1", correlation_id="c1")
        await _publish(channel, body, queue.name, message_id="m1")  # the stored outcome
        await _publish(channel, {"task_id": task}, queue.name, message_id="m2")
        answers = [await asyncio.wait_for(replies.get(), 30) for _ in range(3)]

    by_id: dict[str, list[AbstractIncomingMessage]] = {}
    for answer in answers:
        by_id.setdefault(json.loads(answer.body)["message_id"], []).append(answer)
    done = {
        "message_id": "m1",
        "state": "done",
        "result": {"task_id": task, "old_status": "pending", "new_status": "done"},
    }
    assert [json.loads(answer.body) for answer in by_id["m1"]] == [done, done]
    assert {answer.correlation_id for answer in by_id["m1"]} == {"c1", "m1"}
    (rejected,) = by_id["m2"]
    assert json.loads(rejected.body)["state"] == "rejected"
    assert "new_status" in json.loads(rejected.body)["reason"]


@pytest.mark.parametrize("reply_to", ["amq.gen-gone", "reply.gone", "maintenance.dead", "notifier.reminder_due", "x"])
async def test_a_reply_to_that_is_gone_or_not_for_replies_leaves_effect_and_ack(
    maintenance: Maintenance, database_url: str, broker_url: str, management: Management, reply_to: str
) -> None:
    tasks = [await maintenance.task() for _ in range(2)]
    async with running(database_url, broker_url) as process, await aio_pika.connect(broker_url) as connection:
        channel = await connection.channel()
        for task in tasks:  # the second shows that the service still lives and replies still flow
            await _publish(channel, {"task_id": task, "new_status": "done"}, reply_to, message_id=f"m{task}")
            await eventually(partial(maintenance.rows, ENDED, f"m{task}"))
        assert process.health.ready
    assert (await management.depth(UPDATE)).ready == 0  # what was not acknowledged would be there again
    assert [await maintenance.status(task) for task in tasks] == ["done", "done"]
    for queue in ("maintenance.dead", "notifier.reminder_due"):
        assert (await management.depth(queue)).ready == 0
