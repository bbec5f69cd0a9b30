"""Settling messages: each that we hold is acknowledged or returned once, and counted."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aiormq.abc import DeliveredMessage

from taskbell.logs import logger
from taskbell.messaging.consuming.acks import Acks
from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS, connection_errors_named
from taskbell.metrics import Metrics

SETTLE_TIMEOUT = 5.0
"""Seconds that acknowledging a set may take; after that its connection is as good as lost."""

Ending = Literal["done", "retried", "dead", "returned"]
"""How a message ended: handled, moved to the retry ladder, moved to the dead letters, or back in its queue."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that we hold unacknowledged."""

    message: DeliveredMessage
    since: float


class Settlement:
    """Of one queue's messages, during one session."""

    def __init__(self, queue: str, metrics: Metrics) -> None:
        self._queue = queue
        self._messages = metrics.messages
        self._handling = metrics.handling.labels(queue)
        self._acks = Acks()
        self._held = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._log = logger("dispatcher")

    def hold(self, message: DeliveredMessage) -> Delivery:
        """Counts a message as held, until it is settled."""
        self._held += 1
        self._idle.clear()
        return Delivery(message, time.perf_counter())

    async def wait_idle(self) -> None:
        """Waits until nothing is held."""
        await self._idle.wait()

    async def settle(self, deliveries: Sequence[Delivery], ending: Ending) -> None:
        """Acknowledges them, or returns them to their queue.

        If the channel is lost, they are delivered again, which their handlers are made for.
        """
        try:
            with connection_errors_named():
                async with asyncio.timeout(SETTLE_TIMEOUT):
                    settle = self._acks.back if ending == "returned" else self._acks.done
                    await settle([delivery.message for delivery in deliveries])
        except CONNECTION_ERRORS as error:
            self._log.info("message.unsettled", queue=self._queue, reason=repr(error))
        finally:
            self._held -= len(deliveries)
            if not self._held:
                self._idle.set()
        self._messages.labels(self._queue, ending).inc(len(deliveries))
        now = time.perf_counter()
        for delivery in deliveries:
            self._handling.observe(now - delivery.since)
