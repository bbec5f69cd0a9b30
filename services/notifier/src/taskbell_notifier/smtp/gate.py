"""Who may use a session now: a fair queue in front of a number of places that can change, and a pace."""

import asyncio
from collections import deque


class Gate:
    """Places for so many at once; who waits longest enters first."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._inside = 0
        self._waiting: deque[asyncio.Future[bool]] = deque()

    async def enter(self) -> bool:
        """Waits for a place. False: `dismiss` was called meanwhile, and no place is taken."""
        if self._inside < self._places:  # then nobody waits: `_admit` would have let them in
            self._inside += 1
            return True
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result():
                self.leave()  # the place had just been given to us
            raise

    def leave(self) -> None:
        """Gives a place back."""
        self._inside -= 1
        self._admit()

    def resize(self, places: int) -> None:
        """From now on so many; those inside stay."""
        self._places = places
        self._admit()

    def dismiss(self) -> None:
        """Sends everybody away who waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(False)

    def _admit(self) -> None:
        while self._waiting and self._inside < self._places:
            turn = self._waiting.popleft()
            if not turn.done():
                self._inside += 1
                turn.set_result(True)


class Pace:
    """At most so many turns a second, evenly spaced: no window of a second holds more than that, and one."""

    def __init__(self, per_second: float | None) -> None:
        self._interval = 1 / per_second if per_second else 0.0
        self._next = 0.0
        self._waiting: set[asyncio.Future[None]] = set()

    async def turn(self) -> None:
        """Waits for the caller's turn, or until `dismiss` is called."""
        if not self._interval:
            return
        loop = asyncio.get_running_loop()
        at = max(self._next, loop.time())
        self._next = at + self._interval
        if at <= loop.time():
            return
        waiter = loop.create_future()
        timer = loop.call_at(at, _end, waiter)
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiting.discard(waiter)

    def dismiss(self) -> None:
        """Ends every wait at once."""
        for waiter in self._waiting:
            _end(waiter)


def _end(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
