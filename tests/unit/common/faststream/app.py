"""An app on FastStream, run by its TestRabbitBroker, and what it sent to retry ladder and dead letters."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from faststream import Context
from faststream.rabbit import (
    ExchangeType,
    RabbitBroker,
    RabbitExchange,
    RabbitMessage,
    RabbitQueue,
    TestRabbitBroker,
)

from taskbell.contracts import TaskStatusChanged
from taskbell.faststream import HandledMessages, MessageEnvelope, TaskbellRouter
from taskbell.messaging.consuming.delivery import Envelope

KEY = "task.status_changed"
BODY = b'{"task_id": 7, "old_status": "pending", "new_status": "done", "requested_by": null}'

Behaviour = Callable[[TaskStatusChanged, Envelope], Awaitable[None]]


class App:
    """One that consumes an event of ours, and does what a test tells it to."""

    def __init__(self, handled: HandledMessages | None = None, middlewares: Sequence[Any] = ()) -> None:
        self.broker = RabbitBroker(middlewares=middlewares, logger=None)
        self.router = TaskbellRouter("timesheets", handled=handled)
        self.handled: list[tuple[TaskStatusChanged, Envelope]] = []
        self.messages: list[RabbitMessage] = []
        """All that its handler was called with, to ask how they were settled."""
        self.behaviour: Behaviour | None = None
        self.retried: list[RabbitMessage] = []
        self.dead: list[RabbitMessage] = []

        @self.router.consumes(TaskStatusChanged)
        async def changed(
            task: TaskStatusChanged, envelope: MessageEnvelope, message: Annotated[Any, Context("message")]
        ) -> None:
            self.messages.append(message)
            if self.behaviour is not None:
                await self.behaviour(task, envelope)
            self.handled.append((task, envelope))

        self._watch(RabbitQueue("retries"), RabbitExchange("taskbell.retry.10s", ExchangeType.FANOUT), self.retried)
        self._watch(RabbitQueue("retries-1m"), RabbitExchange("taskbell.retry.1m", ExchangeType.FANOUT), self.retried)
        self._watch(RabbitQueue("timesheets.dead"), RabbitExchange("taskbell.dead"), self.dead)
        self.broker.include_router(self.router)

    def _watch(self, queue: RabbitQueue, exchange: RabbitExchange, kept: list[RabbitMessage]) -> None:
        async def keep(message: RabbitMessage) -> None:
            kept.append(message)

        async def decode(message: Any) -> Any:
            return message

        self.broker.subscriber(queue, exchange, decoder=decode, no_reply=True)(keep)

    def fails_with(self, error: BaseException) -> None:
        """From now on its handler raises that."""

        async def fail(_task: TaskStatusChanged, _envelope: Envelope) -> None:
            raise error

        self.behaviour = fail

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with TestRabbitBroker(self.broker):
            yield

    async def receive(self, body: bytes = BODY, message_id: str = "m-1", **more: Any) -> None:
        """The event arrives; what its handling raised is raised here."""
        await self.broker.publish(body, exchange="taskbell.events", routing_key=KEY, message_id=message_id, **more)
