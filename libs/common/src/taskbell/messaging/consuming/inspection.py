"""Asking the broker, over a session's connection, what it has of that session's queues."""

from collections.abc import Sequence

from taskbell.messaging.topology import DEAD, RETRIES, dead_queue, service_of
from taskbell.messaging.wire.connection import Connection


async def check_topology(connection: Connection, queues: Sequence[str]) -> None:
    """Checks that these queues exist, and all that their messages may need.

    Raises:
        ChannelNotFoundEntity: one of them is missing.
        CONNECTION_ERRORS: the broker could not be asked.
    """
    channel = await connection.channel()
    ladder = [name for name, _ in RETRIES]
    for exchange in (DEAD, *ladder):
        await channel.exchange_declare(exchange, passive=True)
    services = sorted({service_of(queue) for queue in queues})
    for queue in (*map(dead_queue, services), *ladder, *queues):
        await channel.queue_declare(queue, passive=True)
    await channel.close()


async def queue_without_consumer(connection: Connection, queues: Sequence[str]) -> str | None:
    """One of these queues of which the broker knows no consumer. Raises CONNECTION_ERRORS if it could not be asked."""
    missing: str | None = None
    channel = await connection.channel()
    for queue in queues:
        if not (await channel.queue_declare(queue, passive=True)).consumer_count:
            missing = queue
    await channel.close()
    return missing
