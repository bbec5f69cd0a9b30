"""Consumers with what they need, and a handler that records what it gets."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.management import Management, Message
from tests.support.waiting import eventually

from taskbell.contracts import CATALOGUE, Contract, UpdateTaskStatus
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.messaging.consuming.consumers import Consumers
from taskbell.messaging.consuming.delivery import Envelope, Received
from taskbell.messaging.consuming.subscription import Subscription
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.metrics import Metrics

QUEUE = "maintenance.update_task_status"
DEAD = "maintenance.dead"
NAME = "harness consume"


def command(number: int, text: str | None = None) -> bytes:
    """The body of a valid command."""
    told = f', "requested_by": "{text}"' if text else ""
    return f'{{"task_id": {number}, "new_status": "done"{told}}}'.encode()


class Recorder:
    """A handler that records its sets of messages, and fails if `fail` returns an error."""

    def __init__(self) -> None:
        self.sets: list[list[Received[Any]]] = []
        self.done: list[Received[Any]] = []
        self.told: list[tuple[Envelope, str]] = []
        self.fail: Callable[[Sequence[Received[Any]]], Exception | None] = lambda _: None
        self.before: Callable[[], Awaitable[object]] | None = None

    async def handle(self, messages: Sequence[Received[Any]]) -> None:
        self.sets.append(list(messages))
        if self.before is not None:
            await self.before()
        if (error := self.fail(messages)) is not None:
            raise error
        self.done.extend(messages)

    async def invalid(self, refused: Sequence[tuple[Envelope, str]]) -> None:
        self.told += refused

    async def dead(self, message: Received[Any], reason: str) -> None:
        self.told.append((message.envelope, reason))

    def subscription(self, queue: str = QUEUE, contract: type[Contract] = UpdateTaskStatus, **more: Any) -> Any:
        return Subscription(queue, contract, self.handle, on_invalid=self.invalid, on_dead=self.dead, **more)

    @property
    def numbers(self) -> list[int]:
        """The task ids that took effect, in order."""
        return [message.body.task_id for message in self.done]

    async def wait_for(self, count: int, *, limit: float = 30.0) -> None:
        await eventually(lambda: len(self.done) >= count, limit=limit, what=f"{count} messages handled")


@dataclass(frozen=True)
class Running:
    consumers: Consumers
    stop: asyncio.Event
    task: "asyncio.Task[None]"


class ConsumingHarness:
    """Consumers and a publisher on one virtual host."""

    def __init__(self, url: str, management: Management) -> None:
        self.url = url
        self.management = management
        self.health = Health()
        self.metrics = Metrics()
        self.publisher = Publisher(url, name="harness publish")
        self._running: list[Running] = []

    def start(self, *subscriptions: Any, gates: Sequence[Gate] = (), url: str | None = None) -> Running:
        consumers = Consumers(
            url or self.url,
            subscriptions,
            name=NAME,
            publisher=self.publisher,
            gates=gates,
            health=self.health,
            metrics=self.metrics,
        )
        stop = asyncio.Event()
        running = Running(consumers, stop, asyncio.create_task(consumers.run(stop)))
        self._running.append(running)
        return running

    async def consume(self, *subscriptions: Any, gates: Sequence[Gate] = ()) -> Running:
        """Starts consumers; returns once they consume."""
        running = self.start(*subscriptions, gates=gates)
        await self.ready()
        return running

    def state(self) -> Any:
        return self.health.report()["parts"][NAME]

    async def ready(self) -> None:
        await eventually(lambda: self.state()["state"] == "ready", what="consuming")

    async def stop(self) -> None:
        for running in self._running:
            running.stop.set()
        await asyncio.gather(*(running.task for running in self._running))
        self._running.clear()

    async def close(self) -> None:
        await self.stop()
        await self.publisher.close()

    async def publish(self, body: bytes, message_id: str, queue: str = QUEUE, **more: Any) -> None:
        message = next(each for each in CATALOGUE.values() if each.queue == queue)
        await self.publisher.publish(
            Outgoing(message.exchange, message.routing_key, body, message_id, mandatory=True, **more)
        )

    async def publish_as_retry(self, body: bytes, message_id: str, attempt: int, **more: Any) -> None:
        """A message comes back from the ladder: from the default exchange, under its queue's name."""
        headers = {
            "x-taskbell-attempt": attempt,
            "x-taskbell-exchange": "taskbell.commands",
            "x-taskbell-routing-key": QUEUE,
        }
        await self.publisher.publish(Outgoing("", QUEUE, body, message_id, mandatory=True, headers=headers, **more))

    async def publish_many(self, count: int, start: int = 1) -> None:
        errors = await self.publisher.publish_all(
            [
                Outgoing("taskbell.commands", QUEUE, command(number), f"m-{number}", mandatory=True)
                for number in range(start, start + count)
            ]
        )
        assert errors == [None] * count

    async def ready_in(self, queue: str) -> int:
        return (await self.management.depth(queue)).ready

    async def dead_letters(self, count: int = 1, queue: str = DEAD) -> list[Message]:
        """Waits until there are that many dead letters; takes and returns them."""
        await eventually(lambda: self._has(queue, count), what=f"{count} messages in {queue}")
        return await self.management.take(queue)

    async def _has(self, queue: str, count: int) -> bool:
        return await self.ready_in(queue) >= count
