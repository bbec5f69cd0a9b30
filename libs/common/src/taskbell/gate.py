"""A gate holds back work that needs a server while that server does not answer; no try is counted.

Whoever meets `Unavailable` trips the gate and waits; one prober opens it again. So a server that is away for two
minutes costs no retries, no dead letters and no hot loop, and all parts of a process go on together when it is back.
"""

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy.exc import DBAPIError

from taskbell.concurrency import first_of
from taskbell.errors import DatabaseUnavailable, Unavailable
from taskbell.health import Health, Readiness

FIRST_PROBE = 0.2
SLOWEST_PROBE = 2.0
"""Seconds between probes: doubling from the first to the slowest, so that work resumes within seconds."""

CALM = 10.0
"""Seconds that a gate must have been open before its next closing counts as the first again. Without that, a server
that answers the probe but not the work, such as one that is read-only, would be probed in a hot loop."""

REFUSED = 5.0
"""Seconds until a loop whose statement PostgreSQL refused tries again: an operator has to fix the cause."""


class Gate:
    """Opens when its probe succeeds; closes when somebody trips it.

    Args:
        name: of the server, as readiness shows it.
        probe: raises Unavailable while the server does not answer.
        health: where the state is reported.
        unavailable: the error that says that this server is away.
        closed: what readiness shows while the gate is closed; "degraded" if only a part of the work needs this server.
    """

    def __init__(
        self,
        name: str,
        probe: Callable[[], Awaitable[None]],
        health: Health,
        unavailable: type[Unavailable] = DatabaseUnavailable,
        *,
        closed: Readiness = "waiting",
    ) -> None:
        self.name = name
        self.closed = closed
        self._unavailable = unavailable
        self._probe = probe
        self._health = health
        self._open = asyncio.Event()
        self._tripped = asyncio.Event()
        self._tripped.set()
        self._opened_at = -CALM
        self.closed_since: float | None = None
        """The event loop's time at which it closed; None while it is open."""
        health.expect(name)

    @property
    def is_open(self) -> bool:
        """Whether work that needs this server may go on."""
        return self._open.is_set()

    @property
    def open_since(self) -> float | None:
        """The event loop's time at which it opened; None while it is closed."""
        return self._opened_at if self.is_open else None

    def trip(self, reason: object) -> None:
        """Closes the gate: the server did not answer."""
        self._health.set(self.name, self.closed, str(reason))
        if self._open.is_set() or self.closed_since is None:
            self.closed_since = asyncio.get_running_loop().time()
        self._open.clear()
        self._tripped.set()

    def open(self) -> None:
        """Opens the gate: the server answered."""
        self._opened_at = asyncio.get_running_loop().time()
        self.closed_since = None
        self._tripped.clear()
        self._open.set()
        self._health.set(self.name, "ready")

    def concerns(self, error: Unavailable) -> bool:
        """Whether that error is about this gate's server."""
        return isinstance(error, self._unavailable)

    async def wait_open(self) -> None:
        """Waits until the server answers."""
        await self._open.wait()

    async def rounds(
        self,
        part: str,
        work: Callable[[], Awaitable[float]],
        stop: asyncio.Event,
        *,
        wake: asyncio.Event | None = None,
        refused: Readiness = "degraded",
    ) -> None:
        """Repeats work that needs PostgreSQL until `stop`. A round that is under way then is finished first.

        A round begins when the gate is open. If the server is away, the gate closes and the next round begins as soon
        as it opens again. If the server refuses a statement, or a statement takes too long, the part's state says so,
        and the next round begins after REFUSED seconds. Ending the process would not help: its supervisor would start
        it again, and it would meet the same.

        Args:
            part: the loop's name, as readiness shows it.
            work: one round; returns the seconds until the next, 0 if there is more to do at once.
            wake: if set, the next round begins early. It is cleared before each round, which must see why it was set.
            refused: what readiness shows after a refusal; "waiting" if the process's main work depends on this loop.

        Raises:
            Exception: any other error of the work; the loop ends with it.
        """
        while not stop.is_set():
            await first_of(self.wait_open(), stop.wait())
            if stop.is_set():
                return
            if wake is not None:
                wake.clear()
            try:
                pause = await work()
            except DatabaseUnavailable as error:
                self.trip(error)
            except DBAPIError as error:
                # Only the first line: the others repeat rows, and with them addresses.
                said = str(error.orig).partition("\n")[0][:300]
                self._health.set(part, refused, f"PostgreSQL refuses a statement: {said}")
                await first_of(stop.wait(), timeout=REFUSED)
            else:
                self._health.set(part, "ready")
                if pause > 0:
                    await first_of(stop.wait(), *([] if wake is None else [wake.wait()]), timeout=pause)

    async def run(self, stop: asyncio.Event) -> None:
        """Probes while closed, until `stop`."""
        loop = asyncio.get_running_loop()
        pause = 0.0
        while not stop.is_set():
            await first_of(self._tripped.wait(), stop.wait())
            if loop.time() - self._opened_at >= CALM:
                pause = 0.0
            while self._tripped.is_set() and not stop.is_set():
                if pause:
                    await first_of(stop.wait(), timeout=pause)
                pause = min(max(pause * 2, FIRST_PROBE), SLOWEST_PROBE)
                try:
                    await self._probe()
                except Unavailable as error:
                    self.trip(error)
                else:
                    self.open()
