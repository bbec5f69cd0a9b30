"""The breaker: pauses sending after faults, probes the server, and resumes with few sessions at first.

    sending ──ten server faults in a row──→ server_fault ─┐ probes after 1, 2, 4 … 30 s
       ↑  └───a configuration fault──→ configuration_fault┤ probes every 30 s
       │                                                  ↓ a probe succeeds
       └──────── all sessions in use again ────────── resuming: 1, 2, 4 … sessions
                                                          │ any fault: back at once

A probe opens a session (connect, TLS, EHLO, AUTH) and sends no mail on it. If sending was paused because of what the
server says to a mail, only a mail can tell if that is over: the first one after the probe does, and if it is refused in
the same way, sending is paused again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from random import Random

from taskbell.clock import Clock
from taskbell_notifier.smtp.replies import Submission, Verdict
from taskbell_notifier.smtp.suspicion import Standing

Probe = Callable[[], Awaitable[Submission | None]]
"""Tries the server without a mail; returns None if it works, else the fault."""


class BreakerState(StrEnum):
    SENDING = "sending"
    RESUMING = "resuming"
    SERVER_FAULT = "server_fault"
    CONFIGURATION_FAULT = "configuration_fault"


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """The state of the breaker, its reason, and when it began (aware, UTC)."""

    state: BreakerState
    reason: str
    since: datetime

    @property
    def allows_sending(self) -> bool:
        return self.state in (BreakerState.SENDING, BreakerState.RESUMING)


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds between probes."""

    first: float = 1.0
    longest: float = 30.0
    configuration: float = 30.0
    spread: float = 0.2
    """Waits after server faults vary by this share, so that many notifiers do not connect at the same moment."""

    def before_probe(self, state: BreakerState, failed: int, rng: Random) -> float:
        """How long to wait in that state, after `failed` probes in a row have failed."""
        if state is BreakerState.CONFIGURATION_FAULT:
            return self.configuration
        wait = min(self.first * 2.0 ** min(failed, 30), self.longest)
        return wait * rng.uniform(1 - self.spread, 1 + self.spread)


FAULTS_IN_A_ROW = 10

NOT_THE_RECIPIENT = "the server refuses the sender or the relay (MAIL_DEFAULT_SENDER, MAIL_USERNAME), or everybody"

_SAYS_LITTLE = frozenset({Verdict.REFUSED, Verdict.THROTTLED})
"""Verdicts after which no further sessions are used while sending resumes."""


class Observer:
    """Receives every event of the pool, to count or log it; override the methods that you need.

    No method may raise or block.
    """

    def session_opened(self, seconds: float) -> None:
        """A session was opened; connection, TLS and AUTH took that long."""

    def session_refused(self, refusal: Submission, seconds: float) -> None:
        """No session could be opened."""

    def session_closed(self, why: str) -> None:
        """A session ended: "worn" (its mails are used up), "idle", "lost", "probe" or "shutdown"."""

    def submitted(self, submission: Submission, seconds: float) -> None:
        """A submission ended, or was cancelled; `seconds` are from the call to the verdict."""

    def breaker_changed(self, status: BreakerStatus) -> None:
        """Sending was paused, is being resumed, or has all its sessions again."""


class Breaker:
    """Counts faults, pauses, probes and resumes."""

    def __init__(
        self,
        probe: Probe,
        *,
        sessions: int,
        clock: Clock,
        on_change: Callable[[BreakerStatus], None],
        rng: Random,
        waits: Waits = Waits(),
    ) -> None:
        """Makes a breaker that allows `sessions` at once while nothing is wrong."""
        self._probe = probe
        self._sessions = sessions
        self._clock = clock
        self._on_change = on_change
        self._rng = rng
        self._waits = waits
        self._status = BreakerStatus(BreakerState.SENDING, "", clock.now())
        self._faults = 0
        self._failed_probes = 0
        self._probing: asyncio.Task[None] | None = None
        self._closed = False
        self.allowance = sessions
        """Sessions that may be used at once while sending is allowed."""

    @property
    def status(self) -> BreakerStatus:
        return self._status

    @property
    def state(self) -> BreakerState:
        return self._status.state

    @property
    def reason(self) -> str:
        """Why sending is paused, or was before it began to resume; empty in the state `sending`."""
        return self._status.reason

    @property
    def since(self) -> datetime:
        """When this state began, aware, in UTC."""
        return self._status.since

    def record(self, submission: Submission) -> None:
        """Counts how a submission ended, and pauses or resumes sending accordingly."""
        verdict = submission.verdict
        if verdict in (Verdict.NOT_SENT, Verdict.PAUSED) or not self._status.allows_sending:
            return
        if submission.standing is Standing.SUSPECTED:
            self.suspect(submission.reason)
        elif verdict is not Verdict.FAILED and (
            submission.standing is Standing.KNOWN
            or (submission.standing is Standing.ALONE and verdict is Verdict.CONFIGURATION_FAULT)
        ):
            # The server has taken others' mails since it said this first: it is about this recipient.
            self._faults = 0
        elif verdict is Verdict.CONFIGURATION_FAULT:
            self._pause(BreakerState.CONFIGURATION_FAULT, submission.reason)
        elif verdict is Verdict.SERVER_FAULT:
            self._faults += 1
            if self._faults >= FAULTS_IN_A_ROW or self.state is BreakerState.RESUMING:
                self._pause(BreakerState.SERVER_FAULT, submission.reason)
        else:
            self._faults = 0
            if self.state is BreakerState.RESUMING and submission.code is not None and verdict not in _SAYS_LITTLE:
                self._widen()

    def doubt(self, fault: Submission) -> None:
        """Pauses sending after this one fault, which was found before there was a mail; probes go on from there."""
        if not self._status.allows_sending or fault.verdict in (Verdict.NOT_SENT, Verdict.PAUSED):
            return
        known = fault.verdict is Verdict.CONFIGURATION_FAULT
        self._pause(BreakerState.CONFIGURATION_FAULT if known else BreakerState.SERVER_FAULT, fault.reason)

    def suspect(self, reason: str) -> None:
        """Pauses, because the server refuses mails for what no recipient can help."""
        if self._status.allows_sending:
            self._pause(BreakerState.CONFIGURATION_FAULT, f"{NOT_THE_RECIPIENT}: {reason}")

    async def close(self) -> None:
        """Ends the probing for good."""
        self._closed = True
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})

    def _pause(self, state: BreakerState, reason: str) -> None:
        self._enter(state, reason)
        if not self._closed:
            self._probing = asyncio.get_running_loop().create_task(self._probe_until_it_works())

    def _widen(self) -> None:
        self.allowance = min(2 * self.allowance, self._sessions)
        if self.allowance == self._sessions:
            self._failed_probes = 0
            self._enter(BreakerState.SENDING, "")

    async def _probe_until_it_works(self) -> None:
        while True:
            await asyncio.sleep(self._waits.before_probe(self.state, self._failed_probes, self._rng))
            self._failed_probes += 1
            try:
                fault = await self._probe()
            except Exception as error:  # noqa: BLE001 - if probing ended here, sending would never resume
                fault = Submission(Verdict.SERVER_FAULT, text=f"the probe broke: {error!r}")
            if fault is None:
                break
            known = fault.verdict is Verdict.CONFIGURATION_FAULT
            self._enter(BreakerState.CONFIGURATION_FAULT if known else BreakerState.SERVER_FAULT, fault.reason)
        self._faults = 0
        self.allowance = 1
        self._enter(BreakerState.RESUMING, self.reason)

    def _enter(self, state: BreakerState, reason: str) -> None:
        if state is not self.state:
            self._status = BreakerStatus(state, reason, self._clock.now())
        elif reason != self.reason:
            self._status = BreakerStatus(state, reason, self.since)
        else:
            return
        self._on_change(self._status)
