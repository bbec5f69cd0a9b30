"""Consumes what arrives in queues and keeps it."""

from collections.abc import Callable
from typing import Self

import aiormq
from aiormq.abc import DeliveredMessage


class Arrivals:
    """Consumes everything that reaches some queues, and keeps it in the order of arrival."""

    def __init__(self, url: str, *queues: str, each: Callable[[DeliveredMessage], None] | None = None) -> None:
        self._url = url
        self._queues = queues
        self._each = each
        self.messages: list[DeliveredMessage] = []

    async def __aenter__(self) -> Self:
        self._connection = await aiormq.connect(self._url)
        channel = await self._connection.channel()
        for queue in self._queues:
            await channel.basic_consume(queue, self._take, no_ack=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    async def _take(self, message: DeliveredMessage) -> None:
        self.messages.append(message)
        if self._each is not None:
            self._each(message)

    def ids(self) -> list[str | None]:
        """The message_id of each, in the order of arrival."""
        return [message.header.properties.message_id for message in self.messages]
