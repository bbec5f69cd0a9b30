"""Messages as they come from the broker, on a channel that remembers what became of them."""

from itertools import count
from typing import Any, cast

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

QUEUE = "maintenance.update_task_status"


class Channel:
    """Delivers, and knows what was acknowledged and what was returned."""

    def __init__(self) -> None:
        self._tags = count(1)
        self.acknowledged: set[int] = set()
        self.returned: set[int] = set()

    def deliver(self, body: bytes, *, redelivered: bool = False) -> DeliveredMessage:
        return DeliveredMessage(
            delivery=Basic.Deliver("tag", next(self._tags), redelivered, "taskbell.commands", QUEUE),
            header=ContentHeader(),
            body=body,
            channel=cast(Any, self),
        )

    async def basic_ack(self, tag: int, *, multiple: bool = False, wait: bool = True) -> None:
        self.acknowledged |= {*range(1, tag + 1)} - self.returned if multiple else {tag}

    async def basic_nack(self, tag: int, *, requeue: bool, wait: bool = True) -> None:
        assert requeue
        self.returned.add(tag)


def command(number: int) -> bytes:
    """The body of a command for that task."""
    return f'{{"task_id": {number}, "new_status": "done"}}'.encode()
