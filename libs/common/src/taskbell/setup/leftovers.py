"""Finds queues that setup once declared and that the catalogue no longer contains."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import aiormq

from taskbell.contracts import COMMANDS, EVENTS
from taskbell.errors import BrokerUnavailable
from taskbell.messaging.topology import DEAD, consumers, dead_queue, service_of, topology
from taskbell.messaging.wire.connection import Connection, connected
from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS, connection_errors_named, in_words
from taskbell.setup.management import ManagementApi

LIMIT = 30.0
"""Seconds for counting the messages in all of them."""


async def queues_left_over(api: ManagementApi, broker_url: str) -> list[str]:
    """A sentence about each such queue, with the number of its messages and the remedy.

    Such are queues that were made as setup makes them, for whatever service; and queues that are named after an
    installed service and are bound to one of our exchanges. Queues that others have declared are not reported.
    """
    found = await api.get("/api/queues/{vhost}?disable_stats=true") or []
    bound = await _bound(api, (EVENTS, COMMANDS)), await _bound(api, (DEAD,))
    known = {queue.name for queue in topology().queues}
    names = sorted(it["name"] for it in found if it["name"] not in known and _is_ours(it, *bound))
    if not names:
        return []
    counts = await _counts(broker_url, names)
    return [_sentence(name, counts[name]) for name in names if name in counts]


def _is_ours(queue: Mapping[str, Any], bound: Iterable[str], dead: Iterable[str]) -> bool:
    name, arguments = queue["name"], queue.get("arguments", {})
    service = service_of(name)
    as_setup_makes_them = (
        arguments.get("x-dead-letter-exchange") == DEAD
        and arguments.get("x-dead-letter-routing-key") == dead_queue(service)
    ) or (name == dead_queue(service) and name in dead)
    return as_setup_makes_them or (service in consumers() and name in bound)


async def _bound(api: ManagementApi, exchanges: Iterable[str]) -> set[str]:
    found = [await api.get(f"/api/exchanges/{{vhost}}/{exchange}/bindings/source") or [] for exchange in exchanges]
    return {it["destination"] for bindings in found for it in bindings if it["destination_type"] == "queue"}


async def _counts(broker_url: str, names: Iterable[str]) -> dict[str, int]:
    """The present number of messages in each; the management API's own figures lag by seconds."""
    try:
        with connection_errors_named():
            async with asyncio.timeout(LIMIT), connected(broker_url, "taskbell setup") as connection:
                counts = {name: await _count(connection, name) for name in names}
    except TimeoutError:
        msg = "RabbitMQ did not answer in time"
        raise BrokerUnavailable(msg) from None
    except CONNECTION_ERRORS as error:
        raise BrokerUnavailable(f"RabbitMQ: {in_words(error)}") from error
    return {name: count for name, count in counts.items() if count is not None}


async def _count(connection: Connection, name: str) -> int | None:
    """The number of messages in a queue; None: somebody has deleted the queue meanwhile."""
    channel = await connection.channel()
    try:
        answer = await channel.queue_declare(name, passive=True)
    except aiormq.exceptions.ChannelNotFoundEntity:
        return None
    await channel.close()
    return answer.message_count or 0


def _sentence(name: str, count: int) -> str:
    messages = "1 message" if count == 1 else f"{count} messages"
    return (
        f"queue {name} with {messages}, which neither this version nor an installed package consumes: install its "
        f"package again, or delete it (`rabbitmqctl delete_queue {name}`)"
    )
