"""Consuming, supervised: waits for gates and broker, consumes in sessions, and starts anew when one is lost."""

import asyncio
from collections.abc import Sequence
from typing import Any

from taskbell.concurrency import first_of
from taskbell.errors import BrokerUnavailable, ConsumerGone
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.messaging.consuming.session import DRAIN, ConsumingSession
from taskbell.messaging.consuming.subscription import Subscription
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.metrics import Metrics

HOLD = 20.0
"""Seconds for which messages are held while a server is away; then they go back to their queues."""

PAUSE = 1.0
"""Seconds between tries to start a session."""

WATCH = 1.0
"""Seconds between checks of the gates and of the dispatchers."""


class Consumers:
    """The consumers of one group of queues, over one connection.

    Args:
        name: of the group, as readiness and the management UI show it.
        gates: what the handlers need; a closed one holds messages back.
    """

    def __init__(
        self,
        url: str,
        subscriptions: Sequence[Subscription[Any]],
        *,
        name: str,
        publisher: Publisher,
        gates: Sequence[Gate],
        health: Health,
        metrics: Metrics,
    ) -> None:
        self.name = name
        self._url = url
        self._subscriptions = subscriptions
        self._publisher = publisher
        self._gates = gates
        self._health = health
        self._metrics = metrics
        self._paused = asyncio.Event()
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._gone = False
        self._ending: set[asyncio.Task[None]] = set()
        health.expect(name)

    def pause(self) -> None:
        """Stops taking messages; what is held is finished first, within DRAIN seconds."""
        self._resumed.clear()
        self._paused.set()

    def resume(self) -> None:
        """Takes messages again."""
        self._paused.clear()
        self._resumed.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Consumes until `stop`, then drains.

        Raises:
            ConsumerGone: the broker answers and has the queue, but knew of no consumer of ours in two sessions: the
                process must start anew.
        """
        try:
            while not stop.is_set():
                await self._wait(stop)
                if not stop.is_set():
                    await self._session(stop)
            if self._ending:
                await asyncio.wait(self._ending)
        finally:
            for task in self._ending:
                task.cancel()

    async def _wait(self, stop: asyncio.Event) -> None:
        """Waits until a session may start, and reports what it waits for."""
        while not stop.is_set():
            if self._paused.is_set():
                self._health.set(self.name, "degraded", "paused")
                await first_of(self._resumed.wait(), stop.wait())
                continue
            closed = next((gate for gate in self._gates if not gate.is_open), None)
            if closed is None:
                return
            self._health.set(self.name, closed.closed, f"for {closed.name}")
            await first_of(closed.wait_open(), self._paused.wait(), stop.wait())

    async def _session(self, stop: asyncio.Event) -> None:
        session = ConsumingSession(
            self._url,
            self._subscriptions,
            name=self.name,
            publisher=self._publisher,
            gates=self._gates,
            metrics=self._metrics,
        )
        failure: BrokerUnavailable | None = None
        try:
            await session.start()
            await first_of(session.lost(), session.suspicious(), self._watch(session), self._paused.wait(), stop.wait())
            if self._paused.is_set() and not stop.is_set():
                # Nothing is returned: a message that met many pauses would use up its deliveries.
                self._health.set(self.name, "degraded", "paused")
                await first_of(session.finish(), session.lost(), stop.wait(), timeout=DRAIN)
        except BrokerUnavailable as error:
            failure = error
        except BaseException:
            await session.abort()
            raise
        ending = asyncio.create_task(session.end())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        if failure is None:
            await asyncio.wait([ending])
            return
        # Handlers under way go on by themselves, so the next session need not wait for them.
        self._health.set(self.name, "waiting", str(failure))
        if isinstance(failure, ConsumerGone) and self._gone and not session.counted:
            await asyncio.wait([ending])
            raise failure
        self._gone = isinstance(failure, ConsumerGone) or (self._gone and not session.counted)
        await first_of(stop.wait(), timeout=PAUSE)

    async def _watch(self, session: ConsumingSession) -> None:
        """Reports how the session is; returns when a gate has been closed for longer than messages are held."""
        loop = asyncio.get_running_loop()
        while True:
            since = [gate.closed_since for gate in self._gates if gate.closed_since is not None]
            if since and loop.time() - min(since) > HOLD:
                return
            troubles = (dispatcher.holding.trouble for dispatcher in session.dispatchers)
            if trouble := next((it for it in troubles if it is not None), None):
                self._health.set(self.name, "waiting", trouble)
            elif session.counted or not self._gone:
                self._health.set(self.name, "ready")
            await asyncio.sleep(WATCH)
