"""One session of consuming: one connection, from its first look at the queues to its end.

If a message kills the process, it comes back first, and what was held beside it uses up its deliveries with it. So a
session looks at each queue's first message before it consumes. While that one has come back again and again, the
session takes one message at a time. If such a message comes later, from a process that died, the session ends, so that
the next one takes it alone.

Nothing is restored in a session: when its connection, a channel or a consumer is lost, the session is lost, and the
next one starts with nothing left over.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import aiormq
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic

from taskbell.concurrency import first_of
from taskbell.errors import BrokerUnavailable, ConsumerGone, TopologyMissing
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell.messaging.consuming.delivery import envelope_of
from taskbell.messaging.consuming.dispatcher import Dispatcher
from taskbell.messaging.consuming.inspection import check_topology, queue_without_consumer
from taskbell.messaging.consuming.subscription import Subscription
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.messaging.wire.connection import CONNECT_TIMEOUT, Connection
from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS, connection_errors_named, in_words
from taskbell.metrics import Metrics

START_TIMEOUT = 10.0
"""Seconds to look at the queues and to start consuming: a quorum queue without its leader does not answer."""

DRAIN = 25.0
"""Seconds that handlers under way have to finish when a session ends: the longest wait for a final SMTP reply."""

CLOSE_TIMEOUT = 1.0
"""Seconds for cancelling the consumers, and for saying goodbye to the broker."""

WATCH = 1.0
"""Seconds between checks of the workers, and of whether it is time to count the consumers."""

COUNT = 10.0
"""Seconds between asking the broker whether it knows of the consumers."""

MISSES = 3
"""Times in a row that it must know of none: it also answers 0 while a queue elects a leader."""


class ConsumingSession:
    """Consumes from some queues until it is ended, or lost.

    Args:
        name: the connection's name in RabbitMQ's management UI.
    """

    def __init__(
        self,
        url: str,
        subscriptions: Sequence[Subscription[Any]],
        *,
        name: str,
        publisher: Publisher,
        gates: Sequence[Gate],
        metrics: Metrics,
    ) -> None:
        self._url = url
        self._name = name
        self._ending = asyncio.Event()
        self.dispatchers = [Dispatcher(each, publisher, gates, metrics, self._ending) for each in subscriptions]
        self._connection: Connection | None = None
        self._channels: dict[str, AbstractChannel] = {}
        self._consumers: list[tuple[str, str]] = []
        self._broken = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        self._catching_up: list[asyncio.Task[None]] = []
        self._asking = asyncio.Lock()
        self._leaving = False
        self.counted = False
        """Whether the broker named our consumers when it was asked."""
        self._log = logger("session")

    async def start(self) -> None:
        """Starts consuming, once all that its messages may need is there.

        Raises:
            TopologyMissing: a queue or an exchange is missing; no message was taken.
            BrokerUnavailable: the broker does not answer or refuses us.
        """
        try:
            with connection_errors_named():
                async with asyncio.timeout(START_TIMEOUT):
                    connection = await self._connect()
                    await check_topology(connection, [each.subscription.queue for each in self.dispatchers])
                    suspect = [dispatcher for dispatcher in self.dispatchers if not await self._begin(dispatcher)]
        except aiormq.exceptions.ChannelNotFoundEntity as error:
            raise TopologyMissing(f"{in_words(error)}: run `taskbell setup`") from error
        except CONNECTION_ERRORS as error:
            raise BrokerUnavailable(f"RabbitMQ: {in_words(error)}") from error
        for dispatcher in self.dispatchers:
            self._workers += [asyncio.create_task(dispatcher.work()) for _ in range(dispatcher.subscription.workers)]
        self._catching_up = [asyncio.create_task(self._catch_up(dispatcher)) for dispatcher in suspect]

    async def lost(self) -> None:
        """Waits until the session cannot go on.

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
            await first_of(self._broken.wait(), timeout=WATCH)
        raise BrokerUnavailable("the connection to RabbitMQ, or a consumer, was lost")

    async def suspicious(self) -> None:
        """Waits until a message came among others that should be taken alone."""
        await first_of(*(dispatcher.suspicious.wait() for dispatcher in self.dispatchers))

    async def finish(self) -> None:
        """Takes nothing new, and waits until everything that was taken is settled."""
        await self._cancel_consumers()
        await asyncio.gather(*(dispatcher.wait_idle() for dispatcher in self.dispatchers))

    async def end(self) -> None:
        """Takes nothing new, returns what no handler has begun, waits for the others, and closes the connection."""
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
        """Drops everything at once; RabbitMQ then takes back what is held."""
        for task in (*self._workers, *self._catching_up):
            task.cancel()
        for dispatcher in self.dispatchers:
            dispatcher.cancel()
        if self._connection is not None:
            self._connection.abort()
            await self._connection.close(timeout=CLOSE_TIMEOUT)

    async def _connect(self) -> Connection:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            connection = self._connection = await Connection.open(self._url, self._name)
        connection.when_closed(self._broken.set)
        return connection

    async def _begin(self, dispatcher: Dispatcher[Any]) -> bool:
        """Takes a queue's first message and, unless that is a suspect, consumes; returns whether it does."""
        queue, prefetch = dispatcher.subscription.queue, dispatcher.subscription.prefetch
        channel = await self._channel(queue, prefetch)
        if prefetch > 1:  # with 1 each message is alone anyway
            first = await channel.basic_get(queue)
            if not isinstance(first.delivery, Basic.GetEmpty):
                dispatcher.deliver(first)
                if dispatcher.is_suspect(envelope_of(queue, first)):
                    return False
        dispatcher.consuming = True

        async def deliver(message: DeliveredMessage) -> None:
            dispatcher.deliver(message)

        tag = (await channel.basic_consume(queue, deliver)).consumer_tag
        if tag is None:
            raise ConnectionError("the connection was lost")
        self._consumers.append((queue, tag))
        return True

    async def _channel(self, queue: str, prefetch: int) -> AbstractChannel:
        """The queue's own channel; its end, or its consumer's, is the session's."""
        if queue not in self._channels:
            channel = self._channels[queue] = await self._open().channel(prefetch=prefetch)
            channel.closing.add_done_callback(self._break)
            channel.on_consumer_cancel_callbacks.add(self._break)
        return self._channels[queue]

    def _break(self, _: object) -> None:
        if not self._leaving:
            self._broken.set()

    async def _catch_up(self, dispatcher: Dispatcher[Any]) -> None:
        """Takes one message at a time until one is not a suspect."""
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
        return self._broken.is_set()

    async def _without_consumer(self) -> str | None:
        """A queue of which the broker knows no consumer."""
        try:
            with connection_errors_named():
                async with asyncio.timeout(START_TIMEOUT):
                    missing = await queue_without_consumer(self._open(), [queue for queue, _ in self._consumers])
        except CONNECTION_ERRORS as error:
            self._log.info("session.uncounted", reason=repr(error))  # what is lost shows by itself
            return None
        self.counted = self.counted or missing is None
        return missing

    def _open(self) -> Connection:
        if self._connection is None or self._connection.is_closed:
            raise ConnectionError("the connection was lost")
        return self._connection

    async def _cancel_consumers(self) -> None:
        """Takes nothing new."""
        self._leaving = True
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._cancel_begun()
                async with self._asking:  # a message that was asked for meanwhile is ours, too
                    await self._cancel_begun()
        for _ in range(5):
            await asyncio.sleep(0)  # what arrived before the answer is still on its way through aiormq
        for dispatcher in self.dispatchers:
            dispatcher.return_suspects()

    async def _cancel_begun(self) -> None:
        consumers, self._consumers = self._consumers, []
        cancelling = (self._channels[queue].basic_cancel(tag) for queue, tag in consumers)
        await asyncio.gather(*cancelling, return_exceptions=True)

    async def _close(self) -> None:
        try:
            with connection_errors_named():
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    for channel in self._channels.values():
                        # Its goodbye goes out after all acknowledgements, and is answered after them.
                        await channel.close()
                    if self._connection is not None:
                        await self._connection.close()
        except CONNECTION_ERRORS as error:
            self._log.info("session.unclean", reason=repr(error))
