"""Kinds of mail whose statement failed, and how long each waits until it is tried again."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

FACTOR = 5
"""A kind waits so many times as long as its statement took until it failed."""

LONGEST = 900.0
"""Seconds that a kind waits at most."""


@dataclass(frozen=True, slots=True)
class Pause:
    """The pause of one kind."""

    until: float
    """On the event loop's clock."""
    reason: str
    failures: int
    """In a row. With each, the pause is twice as long as before."""


class Pauses:
    """The kinds that are paused, or were until their next success. To be used in an event loop."""

    def __init__(self, first: float) -> None:
        """Makes it empty; `first` is the shortest pause in seconds."""
        self._first = first
        self._pauses: dict[str, Pause] = {}

    def add(self, kind: str, reason: str, *, took: float) -> None:
        """The kind's statement failed after so many seconds. During a pause, another failure changes nothing."""
        now, before = asyncio.get_running_loop().time(), self._pauses.get(kind)
        if before is not None and now < before.until:
            return
        failures = 1 if before is None else before.failures + 1
        seconds = (self._first + FACTOR * took) * 2.0 ** min(failures - 1, 30)
        self._pauses[kind] = Pause(now + min(seconds, LONGEST), reason, failures)

    def over(self, kind: str) -> bool:
        """The kind's statement succeeded; returns True if it had failed before."""
        return self._pauses.pop(kind, None) is not None

    def left(self, kind: str) -> tuple[float, str] | None:
        """The seconds for which that kind still waits, and why; None: it may be tried now."""
        pause, now = self._pauses.get(kind), asyncio.get_running_loop().time()
        return None if pause is None or pause.until <= now else (pause.until - now, pause.reason)

    def waiting(self) -> Sequence[str]:
        """The kinds that are not tried now."""
        return [kind for kind in self._pauses if self.left(kind) is not None]

    def tried(self) -> Sequence[str]:
        """The kinds that failed the last time and may be tried now."""
        return [kind for kind in self._pauses if self.left(kind) is None]
