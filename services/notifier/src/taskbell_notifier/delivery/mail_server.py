"""The SMTP pool as the rest of the notifier sees it: a gate, metrics, and its end."""

import asyncio

from taskbell.errors import Unavailable
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.logs import logger
from taskbell_notifier.metrics import Measures
from taskbell_notifier.smtp.breaker import BreakerStatus, Observer
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.smtp.replies import Submission

GRACE = 25.0
"""Seconds that a stopping service waits for final replies; then those rows are the sweeper's."""


class MailServerUnavailable(Unavailable):
    """Sending is paused: the SMTP server does not answer, or our settings are wrong."""


class Watch(Observer):
    """Counts what happens at SMTP, and remembers whether sending is paused."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._log = logger("smtp")
        self.paused: str | None = None
        """Why sending is paused, None while it is not."""
        self.gate: Gate | None = None

    def session_opened(self, seconds: float) -> None:
        self._measures.sessions_opened.inc()

    def session_refused(self, refusal: Submission, seconds: float) -> None:
        self._measures.sessions_refused.inc()
        self._log.warning("smtp.refused", reason=refusal.reason)

    def session_closed(self, why: str) -> None:
        self._measures.sessions_closed.labels(why).inc()

    def submitted(self, submission: Submission, seconds: float) -> None:
        self._measures.submissions.labels(submission.verdict.value).inc()
        self._measures.submission_seconds.observe(seconds)

    def breaker_changed(self, status: BreakerStatus) -> None:
        self.paused = None if status.allows_sending else (status.reason or status.state.value)
        self._measures.sending.set(0 if self.paused else 1)
        log = self._log.warning if self.paused else self._log.info
        log("smtp.breaker", state=status.state.value, reason=status.reason)
        if self.paused and self.gate is not None:
            self.gate.trip(self.paused)

    async def probe(self) -> None:
        """For the gate: the breaker itself probes the server.

        Raises:
            MailServerUnavailable: sending is paused.
        """
        if self.paused:
            raise MailServerUnavailable(self.paused)


def smtp_gate(watch: Watch, health: Health) -> Gate:
    """The gate before the queue of batches. Closed, readiness stays green: everything but mail goes on."""
    watch.gate = Gate("smtp", watch.probe, health, MailServerUnavailable, closed="degraded")
    return watch.gate


class SmtpPart:
    """Ends the pool with the service: what has not begun is returned at once, what has may finish."""

    def __init__(self, pool: SmtpPool) -> None:
        self.name = "smtp pool"
        self._pool = pool
        self._log = logger("smtp")

    async def run(self, stop: asyncio.Event) -> None:
        """Waits for `stop`, then for final replies."""
        await stop.wait()
        left = await self._pool.close(GRACE)
        if left:
            self._log.warning("smtp.left_in_doubt", mails=left)
