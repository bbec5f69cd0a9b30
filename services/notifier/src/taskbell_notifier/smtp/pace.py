"""The pace: how many mails a second are handed over, over all sessions of a process.

Without a limit of ours and before the server asks for one, nobody waits. When the server throttles, the pace falls to
a part of what it was, and then grows a little with each mail that the server takes, until the server throttles again.
So it stays a little below what the server takes, and is kept for the next mailing.

    throttled after a mail was taken: × 0.7     throttled again before one was taken: × 0.5, FLOOR at least
    a mail that had waited was taken: × 1.03    after several refusals in a row: × 1.5, up to the pace after the first

At the floor each further refusal makes the wait longer, up to LONGEST seconds: a server that counts by the minute or by
the hour is asked now and then, and is taken up at once when it takes mail again.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

FLOOR = 0.2
"""Mails a second below which the pace does not fall; the wait after each refusal may still grow."""

LONGEST = 60.0
"""Seconds between two mails at most while the server refuses all."""

LONGER = 1.25
SLOWER, MUCH_SLOWER = 0.7, 0.5
FASTER, MUCH_FASTER = 1.03, 1.5
GROWTH_SECONDS = 0.25
"""Between two small steps at least: many mails a second must not make the pace grow more in a second than few do."""

UNLIMITED = 1_000.0
"""Once the pace is so many mails a second, the limit is lifted."""

MEASURED = 1.0
"""Seconds over which the pace is measured that a server took before it throttled for the first time."""

SHORTEST_MEASURED = 0.25

FIRST = 2.0
"""Mails a second after the first refusal, if the server has taken none before."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to hand one mail over now."""

    epoch: int
    """Which pace it was given under; a refusal says something only of the pace that it was met at."""
    waited: bool


class Pace:
    """Gives turns, evenly spaced, and learns from how the mails end.

    Args:
        per_second: mails a second at most, whatever the server takes; None: no such limit.
        seconds: the clock by which turns are given; default: the event loop's.
    """

    def __init__(self, per_second: float | None, *, seconds: Callable[[], float] | None = None) -> None:
        self._most = per_second
        self._seconds = seconds
        self._found: float | None = None
        """What the server takes; None: it has not throttled."""
        self.epoch = 0
        """Grows with each change that a refusal makes."""
        self._taken_since = False
        """Whether a mail was taken since the pace fell last."""
        self._goal = 0.0
        """The pace after the first of several refusals in a row, to which it returns quickly."""
        self._grown = -GROWTH_SECONDS
        self._wait = 0.0
        """Seconds between mails at the floor."""
        self._last: float | None = None
        """When the last turn was given."""
        self._recent: deque[float] = deque(maxlen=256)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._free = Turn(0, waited=False)

    @property
    def per_second(self) -> float | None:
        """The pace that the server's throttling has led to; None: it has not throttled."""
        return self._found

    @property
    def interval(self) -> float:
        """Seconds between two turns."""
        interval = 1 / self._most if self._most else 0.0
        if self._found is not None:
            interval = max(interval, 1 / self._found, self._wait)
        return interval

    async def turn(self) -> Turn:
        """Waits for the caller's turn, or until `dismiss` is called. Turns are given in the order of the calls."""
        if self._found is None and not self._most:
            return self._free
        now = self._now()
        if not self._waiting and (self._last is None or now - self._last >= self.interval):
            self._last = now
            return Turn(self.epoch, waited=False)
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._schedule()
        try:
            await waiter
        finally:
            # If it was given its turn and cancelled, the turn is lost: the next one comes an interval later.
            if waiter in self._waiting:
                self._waiting.remove(waiter)
        return Turn(self.epoch, waited=True)

    def dismiss(self) -> None:
        """Ends every wait at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            _end(self._waiting.popleft())

    def taken(self, turn: Turn) -> None:
        """The server took the mail of that turn."""
        if self._found is None:
            self._recent.append(self._now())
            return
        if turn.epoch != self.epoch:
            return
        self._taken_since = True
        self._wait = 0.0
        if turn.waited:
            self._grow(self._found)
            if self._found is not None and self._found >= UNLIMITED:
                self._found = None
                self.dismiss()
                return
        self._schedule()

    def refused(self, turn: Turn) -> None:
        """The server throttled the mail of that turn."""
        if turn.epoch != self.epoch:
            return
        if self._found is None:
            # What was taken in so short a time says little: the pace grows quickly until it is refused again.
            self._found, self._goal = self._first(), UNLIMITED
        elif self._taken_since:
            self._found = self._goal = max(self._found * SLOWER, FLOOR)
        elif self._found > FLOOR:
            # The server takes none until its window ends, whatever the pace: this may be far too slow afterwards.
            self._found = max(self._found * MUCH_SLOWER, FLOOR)
        else:
            self._wait = min(max(self._wait, 1 / FLOOR) * LONGER, LONGEST)
        self._taken_since = False
        self.epoch += 1
        self._free = Turn(self.epoch, waited=False)
        self._last = self._now()
        self._schedule()

    def _grow(self, found: float) -> None:
        now = self._now()
        if found < self._goal:
            self._found = found * MUCH_FASTER
        elif now - self._grown >= GROWTH_SECONDS:
            self._found = found * FASTER
            self._grown = now

    def _first(self) -> float:
        """Half of what the server took in the last second."""
        now = self._now()
        recent = [at for at in self._recent if now - at <= MEASURED]
        self._recent.clear()
        if not recent:
            return FIRST
        return max(MUCH_SLOWER * len(recent) / max(now - recent[0], SHORTEST_MEASURED), FLOOR)

    def _schedule(self) -> None:
        """Sets the timer of the next turn anew, because the interval may have changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            wait = max(0.0, (self._last or 0.0) + self.interval - self._now())
            self._timer = asyncio.get_running_loop().call_later(wait, self._give)

    def _give(self) -> None:
        self._timer = None
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._last = self._now()
                waiter.set_result(None)
                break
        self._schedule()

    def _now(self) -> float:
        return asyncio.get_running_loop().time() if self._seconds is None else self._seconds()


def _end(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
