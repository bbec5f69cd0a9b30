"""Acknowledging: one frame for all messages of a set, if their channel's order allows it."""

import asyncio
from collections.abc import Collection, Sequence

from aiormq.abc import AbstractChannel, DeliveredMessage


class Tally:
    """Which delivery tags of one channel are settled; RabbitMQ counts them up from 1."""

    def __init__(self) -> None:
        self._floor = 0
        self._above: set[int] = set()

    def settle(self, tags: Collection[int]) -> tuple[int, list[int]]:
        """Notes that these tags are settled.

        Returns:
            The highest of these tags up to which every tag is settled, or 0: one acknowledgement covers all up to it.
            And those of these tags that lie above it. A tag that never came to us stays open for ever.
        """
        self._above.update(tags)
        while self._floor + 1 in self._above:
            self._floor += 1
            self._above.discard(self._floor)
        # RabbitMQ closes a channel that acknowledges a tag which is not open, so it must be one of these.
        highest = max((tag for tag in tags if tag <= self._floor), default=0)
        return highest, [tag for tag in tags if tag > self._floor]


class Acks:
    """Acknowledges messages of one consumer.

    It does not wait for a frame to leave the buffer; closing the channel waits for all of them.
    """

    def __init__(self) -> None:
        self._channel: AbstractChannel | None = None
        self._tally = Tally()
        # One that overtook another would acknowledge a tag that is no longer open.
        self._turn = asyncio.Lock()

    async def done(self, messages: Sequence[DeliveredMessage]) -> None:
        """Acknowledges. Raises what aiormq raises if their channel is lost."""
        async with self._turn:
            channel, tags = self._of(messages)
            up_to, others = self._tally.settle(tags)
            if up_to:
                await channel.basic_ack(up_to, multiple=True, wait=False)
            for tag in others:
                await channel.basic_ack(tag, wait=False)

    async def back(self, messages: Sequence[DeliveredMessage]) -> None:
        """Returns them to their queue. Raises what aiormq raises if their channel is lost."""
        async with self._turn:
            channel, tags = self._of(messages)
            for tag in tags:
                await channel.basic_nack(tag, requeue=True, wait=False)
            self._tally.settle(tags)

    def _of(self, messages: Sequence[DeliveredMessage]) -> tuple[AbstractChannel, list[int]]:
        channel = messages[0].channel
        if channel is not self._channel:
            # Another channel begins at 1 again; one tally for both would acknowledge what is still being handled.
            self._channel, self._tally = channel, Tally()
        return channel, [message.delivery_tag or 0 for message in messages]
