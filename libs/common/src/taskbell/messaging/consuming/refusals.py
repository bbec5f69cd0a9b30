"""Messages that do not validate, or came another way than they must, on their way to the dead letters.

They go in sets of what came together, so that a flood of them holds up the good ones little.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskbell.errors import Returned
from taskbell.logs import logger
from taskbell.messaging.consuming import failures
from taskbell.messaging.consuming.delivery import Envelope
from taskbell.messaging.consuming.holding import Holding
from taskbell.messaging.consuming.settlement import Delivery, Settlement
from taskbell.messaging.consuming.subscription import Subscription, Verdict

REFUSALS = 100
"""At most so many messages are refused together."""

REFUSED_BYTES = 1024 * 1024
"""At most so many bytes of bodies, so that a set of large ones is not copied to the broker at once."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that is not taken, and why."""

    delivery: Delivery
    envelope: Envelope
    reason: str
    is_reported: bool = True
    """Whether the subscription's `on_invalid` is called with it."""


class Refusals:
    """Those of one queue, during one session."""

    def __init__(self, subscription: Subscription[Any], holding: Holding, settlement: Settlement) -> None:
        self._on_invalid = subscription.on_invalid
        self._queue = subscription.queue
        self._holding = holding
        self._settlement = settlement
        self._waiting: deque[Refusal] = deque()
        self._task: asyncio.Task[None] | None = None
        self._log = logger("dispatcher")

    def add(self, refusal: Refusal) -> None:
        """Refuses the message soon."""
        self._waiting.append(refusal)
        if self._task is None:
            self._task = asyncio.create_task(self._refuse_all())

    def cancel(self) -> None:
        """Stops at once; what was not settled goes back with its connection."""
        if self._task is not None:
            self._task.cancel()

    async def _refuse_all(self) -> None:
        try:
            await asyncio.sleep(0)  # what came in by the same read joins the first set
            while self._waiting:
                await self._refuse(self._take())
        finally:
            self._task = None

    def _take(self) -> list[Refusal]:
        taken: list[Refusal] = []
        size = 0
        while self._waiting and len(taken) < REFUSALS:
            size += len(self._waiting[0].delivery.message.body)
            if taken and size > REFUSED_BYTES:
                break
            taken.append(self._waiting.popleft())
        return taken

    async def _refuse(self, refused: Sequence[Refusal]) -> None:
        if self._holding.is_over:
            await self._settlement.settle([it.delivery for it in refused], "returned")
            return
        errors: Sequence[Exception | None] = [Returned()] * len(refused)
        try:
            for it in refused:
                known = {"queue": it.envelope.queue, "message_id": it.envelope.message_id}
                self._log.warning("message.invalid", reason=it.reason, **known)
            reported = [it for it in refused if it.is_reported]
            if self._on_invalid is not None and reported:
                await self._report(self._on_invalid, reported)
            dead = [failures.dead(it.envelope, it.delivery.message.body, it.reason) for it in refused]
            errors = await self._holding.publish_all(dead)
        except Returned:
            pass
        except Exception as error:  # noqa: BLE001 - our own mistake must not leave the message hanging
            # It must not take the other messages with it either.
            if len(refused) > 1:
                for it in refused:
                    await self._refuse([it])
                return
            errors = [error]
        await self._settle(refused, errors)

    async def _settle(self, refused: Sequence[Refusal], errors: Sequence[Exception | None]) -> None:
        if moved := [it.delivery for it, error in zip(refused, errors, strict=True) if error is None]:
            await self._settlement.settle(moved, "dead")
        if mistake := next((it for it in errors if it is not None and not isinstance(it, Returned)), None):
            self._log.error("message.stuck", queue=self._queue, exc_info=mistake)
            await self._holding.pause()
        if left := [it.delivery for it, error in zip(refused, errors, strict=True) if error is not None]:
            await self._settlement.settle(left, "returned")

    async def _report(self, verdict: Verdict, refused: Sequence[Refusal]) -> None:
        """Reports them together, or if that fails one by one."""
        subjects = [(it.envelope, it.reason) for it in refused]
        if len(subjects) == 1 or not await self._holding.report(verdict, subjects, last=False):
            for one in subjects:
                await self._holding.report(verdict, [one])
