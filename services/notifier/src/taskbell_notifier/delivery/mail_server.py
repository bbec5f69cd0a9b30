"""What connects the SMTP pool with the rest of the notifier: a gate, metrics, and a part that closes the pool."""

import asyncio

from taskbell.concurrency import first_of
from taskbell.errors import Unavailable
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.logs import logger
from taskbell_notifier.metrics import NotifierMetrics
from taskbell_notifier.smtp.breaker import NOT_THE_RECIPIENT, BreakerState, BreakerStatus, Observer
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.smtp.replies import Submission, Verdict

GRACE = 25.0
"""Seconds that a stopping service waits for final replies; after that the sweeper judges the rows."""


class MailServerUnavailable(Unavailable):
    """Sending is paused: the SMTP server does not answer, or a setting is wrong."""


class PoolObserver(Observer):
    """Counts and logs the events of the pool, and closes the gate while sending is paused."""

    def __init__(self, metrics: NotifierMetrics) -> None:
        self._metrics = metrics
        self._log = logger("smtp")
        self.paused: str | None = None
        """Why sending is paused; None: it is not."""
        self.gate: Gate | None = None

    def session_opened(self, seconds: float) -> None:
        self._metrics.sessions_opened.inc()

    def session_refused(self, refusal: Submission, seconds: float) -> None:
        self._metrics.sessions_refused.inc()
        self._log.warning("smtp.refused", reason=refusal.reason)

    def session_closed(self, why: str) -> None:
        self._metrics.sessions_closed.labels(why).inc()

    def submitted(self, submission: Submission, seconds: float) -> None:
        self._metrics.submissions.labels(submission.verdict.value).inc()
        self._metrics.submission_seconds.observe(seconds)

    def breaker_changed(self, status: BreakerStatus) -> None:
        self.paused = None if status.allows_sending else (status.reason or status.state.value)
        # After a refusal of everybody only a mail that is taken shows that sending goes on. Until then one is tried
        # every half minute, and an alert must not see that as the end of the pause.
        in_doubt = status.state is BreakerState.RESUMING and status.reason.startswith(NOT_THE_RECIPIENT)
        self._metrics.sending.set(0 if self.paused or in_doubt else 1)
        log = self._log.warning if self.paused else self._log.info
        log("smtp.breaker", state=status.state.value, reason=status.reason)
        if self.paused and self.gate is not None:
            self.gate.trip(self.paused)

    async def probe(self) -> None:
        """The gate's probe: it only reads the breaker's state, because the breaker probes the server.

        Raises:
            MailServerUnavailable: sending is paused.
        """
        if self.paused:
            raise MailServerUnavailable(self.paused)


def smtp_gate(observer: PoolObserver, health: Health) -> Gate:
    """The gate before the queue of batches. While it is closed the service stays ready: all but sending goes on."""
    observer.gate = Gate("smtp", observer.probe, health, MailServerUnavailable, closed="degraded")
    return observer.gate


class StartProbe:
    """Tries the mail server at the start, without a mail, so that readiness says what is wrong before the first one.

    A fault pauses sending as other faults do: the breaker probes on, and resumes. It never stops the service.
    """

    def __init__(self, pool: SmtpPool) -> None:
        self.name = "smtp probe"
        self._pool = pool
        self._log = logger("smtp")

    async def run(self, stop: asyncio.Event) -> None:
        """Probes once, then waits for `stop`."""
        await first_of(self.probe(), stop.wait())
        await stop.wait()

    async def probe(self) -> None:
        """Opens a session (EHLO, STARTTLS, AUTH) and ends it with QUIT."""
        try:
            fault = await self._pool.check()
        except Exception as error:  # noqa: BLE001 - a mistake of ours here must not stop what works
            fault = Submission(Verdict.SERVER_FAULT, text=f"the probe broke: {error!r}")
        if fault is None:
            self._log.info("smtp.probed")
        else:
            self._pool.breaker.doubt(fault)


class PoolCloser:
    """Closes the pool when the service stops: mails not begun are returned at once, begun ones may finish."""

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
