"""Queues that setup once declared and that the catalogue does not know any more."""

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
"""Seconds for counting what lies in all of them."""


async def queues_left_over(api: ManagementApi, broker_url: str) -> list[str]:
    """Each of them with its messages and the remedy.

    They are: queues made as setup makes them, of whatever service; and queues that are named after a service that is
    installed and are bound to one of our exchanges. What others have declared is not told of.
    """
    found = await api.get("/api/queues/{vhost}?disable_stats=true") or []
    bound = await _bound(api, (EVENTS, COMMANDS)), await _bound(api, (DEAD,))
    known = {queue.name for queue in topology().queues}
    names = sorted(it["name"] for it in found if it["name"] not in known and _is_ours(it, *bound))
    if not names:
        return []
    counts = await _counts(broker_url, names)
    return [_told(name, counts[name]) for name in names if name in counts]


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
    """The messages that lie in them at this moment; the management API's own figures lag by seconds."""
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
    """The messages in a queue; None: somebody has deleted it meanwhile."""
    channel = await connection.channel()
    try:
        answer = await channel.queue_declare(name, passive=True)
    except aiormq.exceptions.ChannelNotFoundEntity:
        return None
    await channel.close()
    return answer.message_count or 0


def _told(name: str, count: int) -> str:
    messages = "1 message" if count == 1 else f"{count} messages"
    return (
        f"queue {name} with {messages}, which neither this version nor an installed package consumes: install its "
        f"package again, or delete it (`rabbitmqctl delete_queue {name}`)"
    )
