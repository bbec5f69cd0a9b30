"""One queue's messages on their way through their handler: in sets where they wait together, alone where they must be.

Those that do not validate go to the dead letters in sets, too, so that a flood of them holds up its neighbours little.

A set fails as a whole without harm: its messages are then handled one by one, so that only the culprit is retried.
A message that was delivered before is always handled alone: if it kills the process, nothing is half done beside it.
One that came back again and again is suspect: it is not handled beside others that are held, as it would
use up theirs, too.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from aiormq.abc import DeliveredMessage

from taskbell.errors import InvalidMessage, Never, Unavailable
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell.messaging.consuming import failures
from taskbell.messaging.consuming.acks import Acks
from taskbell.messaging.consuming.delivery import Body, Envelope, Received, envelope_of
from taskbell.messaging.consuming.holding import Holding, Returned
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.messaging.wire import properties
from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS, connection_errors_named
from taskbell.metrics import Metrics

Handler = Callable[[Sequence[Received[Body]]], Awaitable[None]]
Verdict = Callable[[Sequence[tuple[Envelope, str]]], Awaitable[None]]
"""Told of messages and of what is wrong with each; again, where it fails with Unavailable."""

SETTLE_TIMEOUT = 5.0
"""Seconds that acknowledging a set may take; after that its connection is as good as lost."""

SUSPECT = 2
"""Times that a message came back until it is suspect. One end of a server or a process costs each message one."""

REFUSALS = 100
"""At most so many messages are refused together."""

REFUSED_BYTES = 1024 * 1024
"""Of their bodies, so that a set of large ones is not copied to the broker at once."""


@dataclass(frozen=True, slots=True)
class Subscription(Generic[Body]):
    """One line of a service's `handlers.py`.

    Args:
        queue: the queue's name.
        contract: what its bodies must validate against.
        handle: the use case; all messages of its set have taken effect when it returns.
        batch: at most so many that wait together are handled together.
        workers: how many sets are handled at the same time.
        prefetch: at most so many are held unacknowledged, and one more when a session begins.
        on_invalid: told of messages that do not validate, before they are dead-lettered.
        on_dead: told of a valid message that is about to be dead-lettered.
    """

    queue: str
    contract: type[Body]
    handle: Handler[Body]
    batch: int = 1
    workers: int = 1
    prefetch: int = 10
    on_invalid: Verdict | None = None
    on_dead: "Callable[[Received[Body], str], Awaitable[None]] | None" = None


@dataclass(frozen=True, slots=True)
class _Delivery:
    """A message that we hold unacknowledged."""

    message: DeliveredMessage
    since: float


@dataclass(frozen=True, slots=True)
class _Refused:
    """One that did not validate, on its way to the dead letters."""

    delivery: _Delivery
    envelope: Envelope
    reason: str


@dataclass(frozen=True, slots=True)
class _Held(Generic[Body]):
    """One that validated, on its way to its handler."""

    delivery: _Delivery
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
        self.holding = Holding(subscription.queue, publisher, gates, ending)
        self._messages = metrics.messages
        self._handling = metrics.handling.labels(subscription.queue)
        self._waiting: deque[_Held[Body]] = deque()
        self._arrived = asyncio.Event()
        self._refused: deque[_Refused] = deque()
        self._refusing = False
        self.tasks: set[asyncio.Task[None]] = set()
        """What is under way on behalf of messages outside of workers."""
        self._acks = Acks()
        self._held = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.consuming = False
        """Others than those that were asked for may come in."""
        self._suspects: list[_Delivery] = []
        self.suspicious = asyncio.Event()
        """A suspect came among others; the session should end, and the next one ask for it alone."""
        self._log = logger("dispatcher")

    def is_suspect(self, envelope: Envelope) -> bool:
        """May it be what ends the process? Where only one is held at a time, none uses up another's deliveries."""
        return envelope.returns >= SUSPECT and self.subscription.prefetch > 1

    def deliver(self, message: DeliveredMessage) -> None:
        """Takes one delivery; nothing that is in it makes this fail."""
        delivery = _Delivery(message, time.perf_counter())
        self._held += 1
        self._idle.clear()
        envelope = envelope_of(self.subscription.queue, message)
        if self.consuming and self.is_suspect(envelope):
            self._suspects.append(delivery)
            self.suspicious.set()
            return
        try:
            held = _Held(delivery, Received(self._parse(envelope, message.body), envelope))
        except Exception as error:  # noqa: BLE001 - also a contract's own mistake must not leave the message hanging
            if not isinstance(error, InvalidMessage):
                self._log.error("message.unparsed", queue=envelope.queue, exc_info=error)
            self._refused.append(_Refused(delivery, envelope, failures.reason_of(error)))
            if not self._refusing:
                self._refusing = True
                self._start(self._refuse_all())
        else:
            self._waiting.append(held)
            self._arrived.set()

    def _parse(self, envelope: Envelope, body: bytes) -> Body:
        if (unreadable := envelope.headers.get(properties.UNREADABLE)) is not None:
            raise InvalidMessage(properties.text_of(unreadable, failures.REASON_LIMIT) or properties.UNREADABLE)
        return self.subscription.contract.parse(body)

    async def work(self) -> None:
        """One worker: handles what waits, until it is cancelled between two sets."""
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            await asyncio.sleep(0)  # what came in by the same read joins the set
            if batch := self._take():
                await self._handle(batch)

    async def wait_idle(self) -> None:
        """Waits until nothing is held."""
        await self._idle.wait()

    def return_suspects(self) -> None:
        """Gives back what is not handled in this session."""
        if self._suspects:
            suspects, self._suspects = self._suspects, []
            self._start(self._settle(suspects, "returned"))

    def return_waiting(self) -> None:
        """Gives back what no worker has taken yet. Call it once `ending` is set: workers return what comes in later."""
        if waiting := [held.delivery for held in self._waiting]:
            self._waiting.clear()
            self._start(self._settle(waiting, "returned"))

    def _take(self) -> list[_Held[Body]]:
        batch: list[_Held[Body]] = []
        while self._waiting and len(batch) < self.subscription.batch:
            alone = self._waiting[0].received.envelope.again
            if alone and batch:
                break
            batch.append(self._waiting.popleft())
            if alone:
                break
        return batch

    async def _handle(self, batch: Sequence[_Held[Body]]) -> None:
        if left := await self._try(batch):
            # At the front: they were taken first. The gates hold them until the server answers.
            self._waiting.extendleft(reversed(left))
            self._arrived.set()

    async def _try(self, batch: Sequence[_Held[Body]]) -> Sequence[_Held[Body]]:
        """Handles a set; returns those that are to be tried again once a server answers, in their order."""
        try:
            await self.holding.pass_gates()
            await self.subscription.handle([held.received for held in batch])
        except Returned:
            await self._settle([held.delivery for held in batch], "returned")
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
            (held,) = batch
            await self._settle_as(held.delivery, self._move(held.received, held.delivery.message.body, error))
        else:
            await self._settle([held.delivery for held in batch], "done")
        return ()

    async def _try_each(self, batch: Sequence[_Held[Body]]) -> Sequence[_Held[Body]]:
        """One after the other; where one has to wait, none behind it overtakes it."""
        for number, held in enumerate(batch):
            if await self._try([held]):
                return batch[number:]
        return ()

    async def _move(self, received: Received[Body], body: bytes, error: Exception) -> str:
        """Puts a message that failed where it belongs; returns the word for it."""
        envelope = received.envelope
        reason = failures.reason_of(error)
        rung = None if isinstance(error, Never) else failures.retry(envelope, body)
        known = {"queue": envelope.queue, "message_id": envelope.message_id, "attempt": envelope.attempt}
        if rung is not None:
            self._log.warning("message.retried", reason=reason, exc_info=error, **known)
            await self.holding.publish(rung)
            return "retried"
        if not isinstance(error, Never):
            reason = f"failed {envelope.attempt + 1} times; at last: {reason}"[: failures.REASON_LIMIT]
        self._log.error("message.dead", reason=reason, exc_info=error, **known)
        if self.subscription.on_dead is not None:
            await self.holding.tell(self.subscription.on_dead, received, reason)
        await self.holding.publish(failures.dead(envelope, body, reason))
        return "dead"

    async def _refuse_all(self) -> None:
        """Sends what does not validate to the dead letters, in sets of what came together, until there is no more."""
        try:
            await asyncio.sleep(0)  # what came in by the same read joins the first set
            while self._refused:
                await self._refuse(self._take_refused())
        finally:
            self._refusing = False

    def _take_refused(self) -> list[_Refused]:
        taken: list[_Refused] = []
        size = 0
        while self._refused and len(taken) < REFUSALS:
            size += len(self._refused[0].delivery.message.body)
            if taken and size > REFUSED_BYTES:
                break
            taken.append(self._refused.popleft())
        return taken

    async def _refuse(self, refused: Sequence[_Refused]) -> None:
        if self.holding.is_over:
            await self._settle([it.delivery for it in refused], "returned")
            return
        errors: Sequence[Exception | None] = [Returned()] * len(refused)
        try:
            for it in refused:
                known = {"queue": it.envelope.queue, "message_id": it.envelope.message_id}
                self._log.warning("message.invalid", reason=it.reason, **known)
            if self.subscription.on_invalid is not None:
                await self._tell_invalid(self.subscription.on_invalid, refused)
            letters = [failures.dead(it.envelope, it.delivery.message.body, it.reason) for it in refused]
            errors = await self.holding.publish_all(letters)
        except Returned:
            pass
        except Exception as error:  # noqa: BLE001 - our own mistake, as in `_settle_as`
            if len(refused) > 1:  # it must not take the others with it
                for it in refused:
                    await self._refuse([it])
                return
            errors = [error]
        if gone := [it.delivery for it, error in zip(refused, errors, strict=True) if error is None]:
            await self._settle(gone, "dead")
        if stuck := next((error for error in errors if error is not None and not isinstance(error, Returned)), None):
            await self._stuck(stuck)
        if left := [it.delivery for it, error in zip(refused, errors, strict=True) if error is not None]:
            await self._settle(left, "returned")

    async def _tell_invalid(self, verdict: Verdict, refused: Sequence[_Refused]) -> None:
        told = [(it.envelope, it.reason) for it in refused]
        if len(told) == 1 or not await self.holding.tell(verdict, told, last=False):
            for one in told:
                await self.holding.tell(verdict, [one])

    async def _settle_as(self, delivery: _Delivery, moving: Awaitable[str]) -> None:
        """Acknowledges a message once it lies elsewhere, or gives it back."""
        try:
            word = await moving
        except Returned:
            word = "returned"
        except Exception as error:  # noqa: BLE001 - our own mistake; the delivery limit ends what would go on for ever
            await self._stuck(error)
            word = "returned"
        await self._settle([delivery], word)

    async def _stuck(self, error: Exception) -> None:
        self._log.error("message.stuck", queue=self.subscription.queue, exc_info=error)
        await self.holding.pause()

    async def _settle(self, deliveries: Sequence[_Delivery], word: str) -> None:
        """Acknowledges; where the channel is lost the messages come again, and their handler knows how to take that."""
        try:
            with connection_errors_named():
                async with asyncio.timeout(SETTLE_TIMEOUT):
                    settle = self._acks.back if word == "returned" else self._acks.done
                    await settle([delivery.message for delivery in deliveries])
        except CONNECTION_ERRORS as error:
            self._log.info("message.unsettled", queue=self.subscription.queue, reason=repr(error))
        finally:
            self._held -= len(deliveries)
            if not self._held:
                self._idle.set()
        self._messages.labels(self.subscription.queue, word).inc(len(deliveries))
        now = time.perf_counter()
        for delivery in deliveries:
            self._handling.observe(now - delivery.since)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
