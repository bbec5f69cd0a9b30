"""Holding a message while a server that it needs is away.

Such a server is waited for, however long, and no try is counted. Only the end of the session returns the message.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from taskbell.concurrency import first_of
from taskbell.errors import BrokerUnavailable, Returned, Unavailable, Unroutable
from taskbell.gate import Gate
from taskbell.logs import logger
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher

PAUSE = 1.0
"""Seconds between tries if no gate says when to try again."""


class Holding:
    """For one queue's dispatcher, during one session.

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
        """Why messages that failed cannot go to ladder or dead letters now, if that is so."""
        self._log = logger("dispatcher")

    @property
    def is_over(self) -> bool:
        """Whether the session's end has begun."""
        return self._ending.is_set()

    async def pass_gates(self) -> None:
        """Waits until all gates are open. Raises Returned if the session ends first, or has ended."""
        while not self._ending.is_set():
            closed = next((gate for gate in self._gates if not gate.is_open), None)
            if closed is None:
                return
            await first_of(closed.wait_open(), self._ending.wait())
        raise Returned

    async def wait_out(self, error: Unavailable) -> None:
        """Closes the gates of a server that is away; pauses if there is none for it."""
        self._log.info("message.waits", queue=self._queue, reason=str(error))
        concerned = [gate for gate in self._gates if gate.concerns(error)]
        for gate in concerned:
            gate.trip(error)
        if not concerned:
            await self.pause()

    async def pause(self) -> None:
        """Waits PAUSE seconds, or until the session ends, so that a loop that would come back at once does not spin."""
        await first_of(self._ending.wait(), timeout=PAUSE)

    async def report(self, verdict: Callable[..., Awaitable[None]], *subjects: object, last: bool = True) -> bool:
        """Calls a verdict on messages; waits for the database as long as the session lasts. Says whether it succeeded.

        Args:
            last: nobody will try it another way, so a failure is logged.
        """
        while True:
            await self.pass_gates()
            try:
                await verdict(*subjects)
            except Unavailable as error:
                await self.wait_out(error)
            except Exception as error:  # noqa: BLE001 - the message must reach the dead letters even without the record
                if last:
                    self._log.error("message.end_unrecorded", queue=self._queue, exc_info=error)
                return False
            else:
                return True

    async def publish(self, outgoing: Outgoing) -> None:
        """Publishes to ladder or dead letters. Raises Returned if the session ends first."""
        (error,) = await self.publish_all([outgoing])
        if error is not None:
            raise error

    async def publish_all(self, outgoing: Sequence[Outgoing]) -> list[Exception | None]:
        """Publishes to ladder or dead letters.

        Returns:
            For each None; or Returned, if the session ended first; or the error that makes it impossible.
        """
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
