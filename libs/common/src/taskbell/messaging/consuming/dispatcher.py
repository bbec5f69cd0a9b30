"""Handing one queue's messages to their handler: in sets if they wait together, alone if they must be.

A set may fail as a whole without harm: its messages are then handled one by one, so that only the culprit is retried.
A message that was delivered before is always handled alone: if it kills the process, nothing beside it is half done.
One that came back again and again is a suspect. It is not handled while others are held, because each time the process
dies their deliveries are used up, too.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Generic

from aiormq.abc import DeliveredMessage

from taskbell.errors import InvalidMessage, Returned, Unavailable
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell.messaging.consuming import failures
from taskbell.messaging.consuming.delivery import Body, Envelope, Received, check_whole, envelope_of, stray
from taskbell.messaging.consuming.holding import Holding
from taskbell.messaging.consuming.refusals import Refusal, Refusals
from taskbell.messaging.consuming.settlement import Delivery, Ending, Settlement
from taskbell.messaging.consuming.subscription import Subscription
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.metrics import Metrics

SUSPECT = 2
"""Returns after which a message is a suspect. One end of a server or a process costs each message one."""


@dataclass(frozen=True, slots=True)
class _Valid(Generic[Body]):
    """A message that validated, on its way to its handler."""

    delivery: Delivery
    received: Received[Body]


class Dispatcher(Generic[Body]):
    """Handles one subscription's messages during one session.

    Args:
        gates: closed ones hold messages back without counting a try.
        ending: set when the session ends; what is not being handled then goes back to the queue.
    """

    def __init__(
        self,
        subscription: Subscription[Body],
        publisher: Publisher,
        gates: Sequence[Gate],
        metrics: Metrics,
        ending: asyncio.Event,
    ) -> None:
        self.subscription = subscription
        self._binding = subscription.binding
        self.holding = Holding(subscription.queue, publisher, gates, ending)
        self._settlement = Settlement(subscription.queue, metrics)
        self._refusals = Refusals(subscription, self.holding, self._settlement)
        self._waiting: deque[_Valid[Body]] = deque()
        self._arrived = asyncio.Event()
        self._returning: set[asyncio.Task[None]] = set()
        self.consuming = False
        """Whether messages come in that were not asked for one by one."""
        self._suspects: list[Delivery] = []
        self.suspicious = asyncio.Event()
        """A suspect came among others; the session should end, and the next one ask for it alone."""
        self._log = logger("dispatcher")

    def is_suspect(self, envelope: Envelope) -> bool:
        """Whether this message may be what crashes its process.

        Never with prefetch 1: then it is alone anyway, and uses up no other's deliveries.
        """
        return envelope.returns >= SUSPECT and self.subscription.prefetch > 1

    def deliver(self, message: DeliveredMessage) -> None:
        """Takes one delivery; nothing that is in it makes this fail."""
        delivery = self._settlement.hold(message)
        envelope = envelope_of(self.subscription.queue, message)
        if self.consuming and self.is_suspect(envelope):
            self._suspects.append(delivery)
            self.suspicious.set()
            return
        if (reason := stray(envelope, self._binding)) is not None:
            # It is another queue's message, whose outcome under this message_id is not ours to tell.
            self._refusals.add(Refusal(delivery, envelope, reason, is_reported=False))
            return
        try:
            received = Received(self._parse(envelope, message.body), envelope)
        except Exception as error:  # noqa: BLE001 - also a contract's own mistake must not leave the message hanging
            if not isinstance(error, InvalidMessage):
                self._log.error("message.unparsed", queue=envelope.queue, exc_info=error)
            self._refusals.add(Refusal(delivery, envelope, failures.reason_of(error)))
        else:
            self._waiting.append(_Valid(delivery, received))
            self._arrived.set()

    async def work(self) -> None:
        """One worker: handles what waits, until it is cancelled."""
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            await asyncio.sleep(0)  # what came in by the same read joins the set
            if batch := self._take():
                await self._handle(batch)

    async def wait_idle(self) -> None:
        """Waits until nothing is held."""
        await self._settlement.wait_idle()

    def return_suspects(self) -> None:
        """Returns what is not handled in this session."""
        suspects, self._suspects = self._suspects, []
        self._return(suspects)

    def return_waiting(self) -> None:
        """Returns what no worker has taken yet. Call it after `ending` is set: workers return what comes in later."""
        waiting = [it.delivery for it in self._waiting]
        self._waiting.clear()
        self._return(waiting)

    def cancel(self) -> None:
        """Stops what goes on outside of workers; what was not settled goes back with its connection."""
        self._refusals.cancel()
        for task in self._returning:
            task.cancel()

    def _parse(self, envelope: Envelope, body: bytes) -> Body:
        check_whole(envelope)
        return self.subscription.contract.parse(body)

    def _take(self) -> list[_Valid[Body]]:
        """The next set: at most `batch` messages, and one that may have been handled before is alone."""
        batch: list[_Valid[Body]] = []
        while self._waiting and len(batch) < self.subscription.batch:
            alone = self._waiting[0].received.envelope.again
            if alone and batch:
                break
            batch.append(self._waiting.popleft())
            if alone:
                break
        return batch

    async def _handle(self, batch: Sequence[_Valid[Body]]) -> None:
        if left := await self._try(batch):
            # To the front, because they were taken first. The gates hold them until the server answers.
            self._waiting.extendleft(reversed(left))
            self._arrived.set()

    async def _try(self, batch: Sequence[_Valid[Body]]) -> Sequence[_Valid[Body]]:
        """Handles a set; returns those that are to be tried again once a server answers, in their order."""
        try:
            await self.holding.pass_gates()
            await self.subscription.handle([it.received for it in batch])
        except Returned:
            await self._settlement.settle([it.delivery for it in batch], "returned")
        except Unavailable as error:
            await self.holding.wait_out(error)
            return batch
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError):
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                error = RuntimeError("the handler was cancelled from within")
            if len(batch) > 1:
                return await self._try_each(batch)
            (failed,) = batch
            await self._settle_once(self._move(failed.received, failed.delivery.message.body, error), failed.delivery)
        else:
            await self._settlement.settle([it.delivery for it in batch], "done")
        return ()

    async def _try_each(self, batch: Sequence[_Valid[Body]]) -> Sequence[_Valid[Body]]:
        """One after the other; if one has to wait, none behind it overtakes it."""
        for number, one in enumerate(batch):
            if await self._try([one]):
                return batch[number:]
        return ()

    async def _move(self, received: Received[Body], body: bytes, error: Exception) -> Ending:
        """Publishes a message that failed to ladder or dead letters; says to which."""
        envelope = received.envelope
        move = failures.move(envelope, body, error)
        known = {"queue": envelope.queue, "message_id": envelope.message_id, "attempt": envelope.attempt}
        if move.to == "retried":
            self._log.warning("message.retried", reason=move.reason, exc_info=error, **known)
        else:
            self._log.error("message.dead", reason=move.reason, exc_info=error, **known)
            if self.subscription.on_dead is not None:
                await self.holding.report(self.subscription.on_dead, received, move.reason)
        await self.holding.publish(move.message)
        return move.to

    async def _settle_once(self, moved: Awaitable[Ending], delivery: Delivery) -> None:
        """Acknowledges a message once it was moved, or returns it."""
        ending: Ending = "returned"
        try:
            ending = await moved
        except Returned:
            pass
        except Exception as error:  # noqa: BLE001 - our own mistake; the delivery limit ends what would go on for ever
            self._log.error("message.stuck", queue=self.subscription.queue, exc_info=error)
            await self.holding.pause()
        await self._settlement.settle([delivery], ending)

    def _return(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            task = asyncio.create_task(self._settlement.settle(deliveries, "returned"))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)
