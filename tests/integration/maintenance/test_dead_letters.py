"""The dead letters as RabbitMQ has them at this moment, or why nobody knows."""

import asyncio

from tests.support.management import Management
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell_maintenance.dead_letters import DeadLetterQueues


async def test_it_counts_anew_each_time(broker_url: str, management: Management) -> None:
    queues = DeadLetterQueues(broker_url)
    assert (await queues.count()).counts == {"notifier.dead": 0, "maintenance.dead": 0}
    for _ in range(3):
        await management.publish("taskbell.dead", "maintenance.dead", "{}")

    async def counted() -> bool:
        return (await queues.count()).counts == {"notifier.dead": 0, "maintenance.dead": 3}

    await eventually(counted)


async def test_a_missing_queue_is_told(empty_vhost: Vhost) -> None:
    answer = await DeadLetterQueues(empty_vhost.url).count()
    assert answer.counts is None
    assert answer.note is not None
    assert "notifier.dead" in answer.note


async def test_a_broker_that_is_away_is_told() -> None:
    answer = await DeadLetterQueues("amqp://127.0.0.1:1/").count()
    assert (answer.counts, (answer.note or "").startswith("RabbitMQ: ")) == (None, True)


async def test_a_broker_that_says_nothing_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        answer = await DeadLetterQueues(f"amqp://127.0.0.1:{port}/", timeout=0.2).count()
    finally:
        server.close()
        await server.wait_closed()
    assert answer.note == "RabbitMQ did not answer within 0.2 s"
