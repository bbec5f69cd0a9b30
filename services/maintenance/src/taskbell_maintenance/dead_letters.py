"""Asks RabbitMQ how many messages are in the dead-letter queues."""

import asyncio

from taskbell.messaging.topology import consumers, dead_queue
from taskbell.messaging.wire.connection import connected
from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS, connection_errors_named
from taskbell_maintenance.figures import DeadLetters

TIMEOUT = 5.0
"""Seconds that a report waits for RabbitMQ. If there is no answer, the report says so."""


class DeadLetterQueues:
    """Counts over a connection of its own.

    Args:
        timeout: seconds for the answer.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        self._url = url
        self._timeout = timeout

    async def count(self) -> DeadLetters:
        """The lengths of the queues, or the reason why they are unknown. Never raises because of the broker."""
        try:
            with connection_errors_named():
                async with asyncio.timeout(self._timeout):
                    return DeadLetters(await self._count())
        except TimeoutError:
            return DeadLetters(None, f"RabbitMQ did not answer within {self._timeout:g} s")
        except CONNECTION_ERRORS as error:
            return DeadLetters(None, f"RabbitMQ: {str(error).splitlines()[0] if str(error) else type(error).__name__}")

    async def _count(self) -> dict[str, int]:
        async with connected(self._url, "taskbell maintenance dead letters") as connection:
            channel = await connection.channel()
            found = {}
            for queue in map(dead_queue, consumers()):
                answer = await channel.queue_declare(queue, passive=True)
                found[queue] = answer.message_count or 0
            return found
