"""One session of consuming: one FastStream broker over one connection, from its first look at the queues to its end.

A message that kills the process comes back first, and what was held beside it would use up its deliveries with it. So
a session looks at each queue's first message before it consumes, and while that has come back again and again, it takes
one at a time. Where such a one comes later, from a process that died, the session ends for the next one to look.

Nothing is restored in a session: when its connection, a channel or a consumer is lost, the session is, and the next one
starts with nothing left over, instead of relying on what a reconnecting client makes of it.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import aio_pika
import aiormq
import aiormq.channel
from aio_pika.abc import AbstractChannel
from aiormq.abc import AbstractConnection, DeliveredMessage
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from faststream.rabbit.subscriber import RabbitSubscriber
from pamqp.commands import Basic

from taskbell.concurrency import first_of
from taskbell.errors import BrokerUnavailable, TopologyMissing
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell.messaging.consuming.delivery import envelope_of
from taskbell.messaging.consuming.dispatcher import Dispatcher, Subscription
from taskbell.messaging.publishing.publisher import CONNECT_TIMEOUT, Publisher
from taskbell.messaging.topology import DEAD, RETRIES, dead_queue, service_of
from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS, connection_errors_named, in_words
from taskbell.messaging.wire.frames import Wire
from taskbell.metrics import Metrics

START_TIMEOUT = 10.0
"""Seconds to look at the queues and to start consuming: a quorum queue without its leader does not answer."""

DRAIN = 25.0
"""Seconds that handlers under way have to finish when a session ends: the longest wait for a final SMTP reply."""

CLOSE_TIMEOUT = 1.0
"""Seconds for saying goodbye to the broker."""

WATCH = 1.0
"""Seconds between looks at whether connection, channels and consumers are still there."""

COUNT = 10.0
"""Seconds between asking the broker whether it knows of the consumers."""

MISSES = 3
"""Times in a row that it must know of none: it answers 0, too, while a queue elects a leader."""

NEVER = 10**8
"""Seconds until aio-pika reconnects by itself."""


class ConsumerGone(BrokerUnavailable):
    """The broker does not know of our consumer, though nobody told us that it is gone."""


class _Connection(aio_pika.RobustConnection):
    """FastStream wants a robust one. This one is over our wire."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wire = Wire()
        self.kwargs["transport_factory"] = self.wire


class _Broker(RabbitBroker):
    async def _connect(self) -> aio_pika.RobustConnection:
        self._connection_kwargs["connection_class"] = _Connection
        return await super()._connect()

    @property
    def connection(self) -> _Connection | None:
        return cast("_Connection | None", self._connection)


class ConsumingSession:
    """Consumes from some queues until it is ended, or lost."""

    def __init__(
        self,
        url: str,
        subscriptions: Sequence[Subscription[Any]],
        *,
        publisher: Publisher,
        gates: Sequence[Gate],
        metrics: Metrics,
    ) -> None:
        self._ending = asyncio.Event()
        self._closed = asyncio.Event()
        self.dispatchers = [Dispatcher(each, publisher, gates, metrics, self._ending) for each in subscriptions]
        self._workers: list[asyncio.Task[None]] = []
        self._consumers: list[tuple[str, str, aiormq.channel.Channel]] = []
        self._channels: list[AbstractChannel] = []
        self._catching_up: list[asyncio.Task[None]] = []
        self._asking = asyncio.Lock()
        self._leaving = False
        self._broker = _Broker(
            url,
            on_close=[lambda *_: self._closed.set()],
            timeout=CONNECT_TIMEOUT,
            reconnect_interval=NEVER,
            graceful_timeout=None,
            apply_types=False,
            logger=None,
        )
        self.counted = False
        """Has the broker named our consumers when it was asked?"""
        self._log = logger("session")
        for dispatcher in self.dispatchers:
            self._subscribe(dispatcher)

    def _subscribe(self, dispatcher: Dispatcher[Any]) -> None:
        """Tells FastStream of the queue and of the channel that it is to be consumed on; messages come past it."""
        self._broker.subscriber(
            RabbitQueue(dispatcher.subscription.queue, durable=True, declare=False),
            channel=Channel(prefetch_count=dispatcher.subscription.prefetch),
            ack_policy=AckPolicy.MANUAL,
        )

    async def start(self) -> None:
        """Starts consuming, once all that its messages may need is there.

        Raises:
            TopologyMissing: a queue or an exchange is missing; no message was taken.
            BrokerUnavailable: the broker does not answer or refuses us.
        """
        try:
            with connection_errors_named():
                async with asyncio.timeout(START_TIMEOUT):
                    await self._broker.connect()
                    await self._look_at_topology()
                    suspect = [dispatcher for dispatcher in self.dispatchers if not await self._begin(dispatcher)]
        except aiormq.exceptions.ChannelNotFoundEntity as error:
            raise TopologyMissing(f"{in_words(error)}: run `taskbell setup`") from error
        except CONNECTION_ERRORS as error:
            raise BrokerUnavailable(f"RabbitMQ: {in_words(error)}") from error
        for dispatcher in self.dispatchers:
            self._workers += [asyncio.create_task(dispatcher.work()) for _ in range(dispatcher.subscription.workers)]
        self._catching_up = [asyncio.create_task(self._catch_up(dispatcher)) for dispatcher in suspect]

    async def lost(self) -> None:
        """Watches until the session cannot go on.

        Raises:
            ConsumerGone: the broker answers and has the queue, but knows of no consumer of it.
            BrokerUnavailable: the connection, a channel or a consumer was lost.
        """
        loop = asyncio.get_running_loop()
        count_at, misses = loop.time() + COUNT, 0
        while not self._is_lost():
            if loop.time() >= count_at:
                count_at = loop.time() + COUNT
                gone = await self._without_consumer()
                misses = misses + 1 if gone else 0
                if misses == MISSES:
                    raise ConsumerGone(f"RabbitMQ knows of no consumer of {gone}")
            await first_of(self._closed.wait(), timeout=WATCH)
        raise BrokerUnavailable("the connection to RabbitMQ, or a consumer, was lost")

    async def suspicious(self) -> None:
        """Waits until a message came back among others that should be taken alone."""
        await first_of(*(dispatcher.suspicious.wait() for dispatcher in self.dispatchers))

    async def finish(self) -> None:
        """Takes nothing new, and returns once all that was taken is dealt with."""
        await self._cancel_consumers()
        await asyncio.gather(*(dispatcher.wait_idle() for dispatcher in self.dispatchers))

    async def end(self) -> None:
        """Takes nothing new, gives back what no handler has begun, waits for the others, and closes the connection."""
        try:
            self._ending.set()
            await self._cancel_consumers()
            for dispatcher in self.dispatchers:
                dispatcher.return_waiting()
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN):
                    await asyncio.gather(*(dispatcher.wait_idle() for dispatcher in self.dispatchers))
            await self._close()
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Drops everything at once; what is held goes back."""
        for task in (
            *self._workers,
            *self._catching_up,
            *(task for dispatcher in self.dispatchers for task in dispatcher.tasks),
        ):
            task.cancel()
        connection = self._broker.connection
        if connection is not None:
            connection.wire.abort()
            with suppress(*CONNECTION_ERRORS), connection_errors_named():
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await connection.close()

    async def _begin(self, dispatcher: Dispatcher[Any]) -> bool:
        """Takes a queue's first message and, unless that is suspect, consumes. Says whether it does."""
        (subscriber,) = (each for each in self._subscribers() if each.queue.name == dispatcher.subscription.queue)
        queue = await subscriber._outer_config.declarer.declare_queue(subscriber.queue, channel=subscriber.channel)
        channel = cast(aiormq.channel.Channel, await queue.channel.get_underlay_channel())
        if dispatcher.subscription.prefetch > 1:  # else each is alone
            first = await channel.basic_get(queue.name)
            if not isinstance(first.delivery, Basic.GetEmpty):
                dispatcher.deliver(first)
                if dispatcher.is_suspect(envelope_of(queue.name, first)):
                    return False
        dispatcher.consuming = True

        async def deliver(message: DeliveredMessage) -> None:
            dispatcher.deliver(message)

        tag = (await channel.basic_consume(queue.name, deliver)).consumer_tag
        if tag is None:
            raise BrokerUnavailable("the connection to RabbitMQ was lost")
        self._consumers.append((queue.name, tag, channel))
        self._channels.append(queue.channel)
        return True

    async def _catch_up(self, dispatcher: Dispatcher[Any]) -> None:
        """Takes one message at a time until one is not suspect."""
        begun = False
        while not begun:
            await dispatcher.wait_idle()
            async with self._asking:
                if self._leaving:
                    return
                with connection_errors_named():
                    async with asyncio.timeout(START_TIMEOUT):
                        begun = await self._begin(dispatcher)
        if self._leaving:
            await self._cancel_begun()

    def _is_lost(self) -> bool:
        for worker in self._workers:
            if worker.done():
                self._log.error("session.worker_ended", exc_info=None if worker.cancelled() else worker.exception())
                return True
        for task in self._catching_up:
            if task.done() and (error := task.exception()) is not None:
                self._log.info("session.not_caught_up", reason=repr(error))
                return True
        return self._closed.is_set() or any(
            channel.is_closed or tag not in channel.consumers for _, tag, channel in self._consumers
        )

    async def _look_at_topology(self) -> None:
        """Looks before anything is taken: what is taken and cannot be kept uses up its deliveries."""
        connection = self._underlay()
        channel = await connection.channel(publisher_confirms=False)
        queues = [dispatcher.subscription.queue for dispatcher in self.dispatchers]
        services = sorted({service_of(queue) for queue in queues})
        ladder = [name for name, _ in RETRIES]
        for exchange in (DEAD, *ladder):
            await channel.exchange_declare(exchange, passive=True)
        for queue in (*map(dead_queue, services), *ladder, *queues):
            await channel.queue_declare(queue, passive=True)
        await channel.close()

    async def _without_consumer(self) -> str | None:
        """A queue of which the broker knows no consumer; asked on a plain channel, robust ones answer from memory."""
        missing: str | None = None
        try:
            with connection_errors_named():
                async with asyncio.timeout(START_TIMEOUT):
                    channel = await self._underlay().channel(publisher_confirms=False)
                    for queue, _, _ in self._consumers:
                        if not (await channel.queue_declare(queue, passive=True)).consumer_count:
                            missing = queue
                    await channel.close()
        except CONNECTION_ERRORS as error:
            self._log.info("session.uncounted", reason=repr(error))  # what is lost shows by itself
            return None
        self.counted = self.counted or missing is None
        return missing

    def _underlay(self) -> AbstractConnection:
        connection = self._broker.connection
        if connection is None or connection.transport is None:
            raise BrokerUnavailable("the connection to RabbitMQ was lost")
        return connection.transport.connection

    def _subscribers(self) -> list[RabbitSubscriber]:
        return [subscriber for subscriber in self._broker.subscribers if isinstance(subscriber, RabbitSubscriber)]

    async def _cancel_consumers(self) -> None:
        """Takes nothing new."""
        self._leaving = True
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._cancel_begun()
                async with self._asking:  # a message that was asked for is ours, too
                    await self._cancel_begun()
        for _ in range(5):
            await asyncio.sleep(0)  # what arrived before the answer is still on its way through aiormq
        for dispatcher in self.dispatchers:
            dispatcher.return_suspects()

    async def _cancel_begun(self) -> None:
        consumers, self._consumers = self._consumers, []
        cancelling = (channel.basic_cancel(tag) for _, tag, channel in consumers)
        await asyncio.gather(*cancelling, return_exceptions=True)

    async def _close(self) -> None:
        try:
            with connection_errors_named():
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    for channel in self._channels:
                        # Its farewell goes out after all acknowledgements, and is answered after them.
                        await channel.close()
                    await self._broker.stop()
        except (*CONNECTION_ERRORS, ExceptionGroup) as error:
            self._log.info("session.unclean", reason=repr(error))
