"""Kinds of mail that this notifier lacks: what it meets of them is left alone at first, and then ends."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

GRACE = 15.0
"""Seconds for which a notifier leaves alone what it meets of a kind that it lacks.

While a package is being installed in one notifier after the other, those that have it already handle its mails."""

FORGOTTEN = 600.0
"""Seconds after which a kind that was not met any more has its whole GRACE again."""

ROW = timedelta(seconds=3)
"""Longest time for which a mail is put off, so that it comes to a notifier that has the kind before GRACE is over."""


class Absent:
    """The kinds that this notifier has met and lacks. To be used in an event loop."""

    def __init__(self) -> None:
        self._met: dict[str, tuple[float, float]] = {}
        """By kind, when it was first and last met, on the event loop's clock."""

    def grace_left(self, kind: str) -> timedelta:
        """Call it if a mailing or a mail of that kind is met: for how long it is left alone. Zero: it ends."""
        now = asyncio.get_running_loop().time()
        first, last = self._met.get(kind, (now, now))
        if now - last > FORGOTTEN:
            first = now
        self._met[kind] = (first, now)
        return timedelta(seconds=max(0.0, first + GRACE - now))

    def left_alone(self) -> Sequence[str]:
        """The kinds that are left alone now."""
        now = asyncio.get_running_loop().time()
        return [kind for kind, (first, _) in self._met.items() if now < first + GRACE]
