"""Says how many dead letters there are, and how large they are."""

import asyncio
from collections.abc import Sequence
from urllib.parse import quote

from taskbell.errors import BrokerUnavailable
from taskbell.messaging.topology import consumers, dead_queue
from taskbell.messaging.wire.connection import connected
from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS, connection_errors_named, in_words
from taskbell.setup.management import ManagementApi

TIMEOUT = 10.0
"""Seconds that RabbitMQ has for counting."""


async def dead_letters(url: str, api: ManagementApi | None) -> Sequence[str]:
    """A sentence for each queue of dead letters that has any.

    Args:
        api: knows how large they are; None: only their number is told.

    Raises:
        BrokerUnavailable: RabbitMQ did not answer.
        SettingsError: the management API refuses.
    """
    sentences = []
    for queue, count in (await _counts(url)).items():
        if count:
            size = "of a size that is unknown without BROKER_MANAGEMENT_URL"
            if api is not None:
                size = _size((await api.get(f"/api/queues/{{vhost}}/{quote(queue, safe='')}")) or {})
            sentences.append(
                f"RabbitMQ: {count} dead letter{'s' * (count != 1)} in {queue}, {size}: the header x-taskbell-reason "
                "of each says why; move them back to their queue, or purge the queue"
            )
    return sentences


async def _counts(url: str) -> dict[str, int]:
    try:
        with connection_errors_named():
            async with asyncio.timeout(TIMEOUT), connected(url, "taskbell setup dead letters") as connection:
                channel = await connection.channel()
                answers = {it: await channel.queue_declare(it, passive=True) for it in map(dead_queue, consumers())}
                return {queue: answer.message_count or 0 for queue, answer in answers.items()}
    except TimeoutError:
        msg = f"RabbitMQ did not answer within {TIMEOUT:g} s"
        raise BrokerUnavailable(msg) from None
    except CONNECTION_ERRORS as error:
        raise BrokerUnavailable(f"RabbitMQ: {in_words(error)}") from error


def _size(found: dict[str, object]) -> str:
    # RabbitMQ counts bytes every few seconds, so those of a new queue are missing.
    size = found.get("message_bytes")
    return f"{size / 1024 / 1024:.1f} MiB" if isinstance(size, int) else "of a size that RabbitMQ does not know yet"
