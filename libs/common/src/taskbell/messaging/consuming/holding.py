"""What is done on behalf of a message that we hold, however long it takes, until the session ends.

Servers that are away are waited for, and no try is counted; only the end of the session gives the message back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from taskbell.concurrency import first_of
from taskbell.errors import BrokerUnavailable, Unavailable, Unroutable
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell.messaging.publishing.publisher import Outgoing, Publisher

PAUSE = 1.0
"""Seconds between tries where no gate says when to try again."""


class Returned(Exception):
    """The session ends before this message could be handled: it goes back to the queue."""


class Holding:
    """That of one queue's dispatcher during one session.

    Args:
        gates: of the servers that its messages need.
        ending: set when the session ends.
    """

    def __init__(self, queue: str, publisher: Publisher, gates: Sequence[Gate], ending: asyncio.Event) -> None:
        self._queue = queue
        self._publisher = publisher
        self._gates = gates
        self._ending = ending
        self.trouble: str | None = None
        """Why messages that failed cannot be moved out of the way, while that is so."""
        self._log = logger("dispatcher")

    async def wait_out(self, error: Unavailable) -> None:
        """Closes the gates of a server that is away; where there is none for it, a pause keeps the loop cool."""
        self._log.info("message.waits", queue=self._queue, reason=str(error))
        concerned = [gate for gate in self._gates if gate.concerns(error)]
        for gate in concerned:
            gate.trip(error)
        if not concerned:
            await self.pause()

    async def tell(self, verdict: Callable[..., Awaitable[None]], *subjects: object, last: bool = True) -> bool:
        """Tells of messages' end; waits for the database as long as the session lasts. Says whether it was heard.

        Args:
            last: nobody tells it otherwise where this fails, so it is logged.
        """
        while True:
            await self.pass_gates()
            try:
                await verdict(*subjects)
            except Unavailable as error:
                await self.wait_out(error)
            except Exception as error:  # noqa: BLE001 - that it lies with the dead letters matters more than the record
                if last:
                    self._log.error("message.end_untold", queue=self._queue, exc_info=error)
                return False
            else:
                return True

    async def publish(self, outgoing: Outgoing) -> None:
        """Publishes to ladder or dead letters. Raises Returned where the session ends first."""
        (error,) = await self.publish_all([outgoing])
        if error is not None:
            raise error

    async def publish_all(self, outgoing: Sequence[Outgoing]) -> list[Exception | None]:
        """Publishes to ladder or dead letters; for each None, or why not: Returned, or what makes it impossible."""
        errors: list[Exception | None] = [None] * len(outgoing)
        left = list(range(len(outgoing)))
        while left:
            answers = await self._publisher.publish_all([outgoing[number] for number in left])
            for number, answer in zip(left, answers, strict=True):
                errors[number] = answer
            left = [number for number in left if isinstance(errors[number], (BrokerUnavailable, Unroutable))]
            if not left:
                break
            if self.trouble is None:
                self._log.warning("message.held", key=outgoing[left[0]].routing_key, reason=str(errors[left[0]]))
            self.trouble = str(errors[left[0]])
            await self.pause()
            if self._ending.is_set():
                for number in left:
                    errors[number] = Returned()
                return errors
        self.trouble = None
        return errors

    @property
    def is_over(self) -> bool:
        """Has the session's end begun?"""
        return self._ending.is_set()

    async def pass_gates(self) -> None:
        """Waits until all gates are open. Raises Returned where the session ends first, or has ended."""
        while not self._ending.is_set():
            closed = next((gate for gate in self._gates if not gate.is_open), None)
            if closed is None:
                return
            await first_of(closed.wait_open(), self._ending.wait())
        raise Returned

    async def pause(self) -> None:
        """Keeps a loop cool that would come back at once."""
        await first_of(self._ending.wait(), timeout=PAUSE)
