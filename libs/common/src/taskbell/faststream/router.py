"""The router: consumes messages of the catalogue from the app's own queues, and publishes messages of it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from faststream import AckPolicy
from faststream.rabbit import Channel, ExchangeType, RabbitExchange, RabbitQueue, RabbitRouter
from faststream.rabbit.publisher import RabbitPublisher
from faststream.rabbit.subscriber import RabbitSubscriber

from taskbell.catalogue import row_of
from taskbell.contracts import Contract
from taskbell.contracts.message import queue_of
from taskbell.faststream.handled import HandledMessages
from taskbell.faststream.handling import Handling
from taskbell.faststream.message import body_of, received
from taskbell.faststream.publishing import MessagePublisher
from taskbell.messaging.consuming.delivery import Body
from taskbell.messaging.topology import DEAD, RETRIES, dead_queue

PREFETCH = 10
"""Messages of one queue that are handled at the same time."""


class TaskbellRouter(RabbitRouter):
    """A FastStream router for one app; `broker.include_router()` it.

    It declares nothing: `taskbell setup` declares the app's queues, named `consumer.message`, its dead letters, and the
    retry ladder. FastStream does not start while one of them is missing.

    Args:
        consumer: the app's name, as its extension names it.
        handled: where the app keeps what has taken effect; without it, a repeated message is handled again.
        middlewares, dependencies: as of any router; these middlewares see a message before it is settled.
    """

    def __init__(
        self,
        consumer: str,
        *,
        handled: HandledMessages | None = None,
        middlewares: Sequence[Any] = (),
        dependencies: Sequence[Any] = (),
    ) -> None:
        ways: dict[str, RabbitPublisher] = {}
        super().__init__(
            middlewares=(*middlewares, partial(Handling, ways=ways, handled=handled)), dependencies=dependencies
        )
        self.consumer = consumer
        self.retries = tuple(
            self._way(RabbitExchange(name, ExchangeType.FANOUT, declare=False), consumer) for name, _ in RETRIES
        )
        """FastStream's publishers of the retry ladder, for tests to ask."""
        self.dead = self._way(RabbitExchange(DEAD, declare=False), dead_queue(consumer))
        """FastStream's publisher of the dead letters, for tests to ask."""
        self.replies = self._way(RabbitExchange(), f"reply.{consumer}")
        """FastStream's publisher of the outcomes of commands, for tests to ask."""
        ways |= {way.exchange.name: way for way in (*self.retries, self.dead, self.replies)}

    def consumes(self, contract: type[Contract], *, prefetch: int = PREFETCH) -> RabbitSubscriber:
        """Decorates the handler of a message: it gets the body as its contract.

        A handler that returns has handled the message; of a command it may return an Outcome, which is sent to whoever
        asked. One that raises Never sends it to the dead letters with that
        reason; Unavailable makes it wait 10 s, and counts no try; any other error makes it wait 10 s, then 1 min, then
        10 min, and then sends it to the dead letters. A body that does not validate goes there at once.

        Args:
            contract: of a row of the catalogue.
            prefetch: at most so many messages are handled at the same time; 1 keeps their order.

        Raises:
            KeyError: the contract is not a message's.
        """
        row = row_of(contract)
        queue = queue_of(self.consumer, row.routing_key)

        async def parse(incoming: Any) -> Any:
            return received(queue, row, incoming)

        async def decode(message: Any) -> Any:
            return body_of(contract, message)

        return self.subscriber(
            RabbitQueue(queue, durable=True, declare=False, routing_key=row.routing_key),
            RabbitExchange(row.exchange, ExchangeType.TOPIC, declare=False),
            channel=Channel(prefetch_count=prefetch),
            ack_policy=AckPolicy.MANUAL,
            parser=parse,
            decoder=decode,
            no_reply=True,
            title=queue,
        )

    def publishes(self, contract: type[Body]) -> MessagePublisher[Body]:
        """A publisher of a message.

        Args:
            contract: of a row of the catalogue.

        Raises:
            KeyError: the contract is not a message's.
        """
        row = row_of(contract)
        exchange = RabbitExchange(row.exchange, ExchangeType.TOPIC, declare=False)
        return MessagePublisher(
            self.publisher(exchange=exchange, routing_key=row.routing_key, persist=True, schema=contract)
        )

    def _way(self, exchange: RabbitExchange, routing_key: str) -> RabbitPublisher:
        return self.publisher(exchange=exchange, routing_key=routing_key, persist=True, include_in_schema=False)
