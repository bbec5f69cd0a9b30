"""An SMTP pool, its server, and what tests observe of both."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.support.scripted_smtp import ScriptedSmtp

from taskbell_notifier.smtp.breaker import BreakerStatus, Observer, Waits
from taskbell_notifier.smtp.envelope import OutgoingMail
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.smtp.replies import Submission
from taskbell_notifier.smtp.transaction import BeforeData

PROMPT_WAITS = Waits(first=0.02, longest=0.02, configuration=0.02)
SILENCE = 1.0
"""Seconds that pools wait for a server that falls silent."""


class Notes(Observer):
    """Keeps what the pool reports."""

    def __init__(self) -> None:
        self.opened = 0
        self.refusals: list[Submission] = []
        self.closed: list[str] = []
        self.submissions: list[Submission] = []
        self.statuses: list[BreakerStatus] = []

    def session_opened(self, seconds: float) -> None:
        self.opened += 1

    def session_refused(self, refusal: Submission, seconds: float) -> None:
        self.refusals.append(refusal)

    def session_closed(self, why: str) -> None:
        self.closed.append(why)

    def submitted(self, submission: Submission, seconds: float) -> None:
        self.submissions.append(submission)

    def breaker_changed(self, status: BreakerStatus) -> None:
        self.statuses.append(status)


@dataclass
class Marker:
    """A `before_data` that counts its calls, and returns or raises `answer`."""

    answer: bool | Exception = True
    calls: int = 0

    async def __call__(self) -> bool:
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@dataclass
class PoolHarness:
    """A pool, its server, and what it reported."""

    pool: SmtpPool
    server: ScriptedSmtp
    notes: Notes
    marker: Marker = field(default_factory=Marker)
    sent: int = 0

    async def send(
        self, recipient: str = "bob@example.org", before_data: BeforeData | None = None, body: bytes = b"Hello.\r\n"
    ) -> Submission:
        """Submits one mail, with a Message-ID of its own: <1@example.org>, <2@example.org> …"""
        self.sent += 1
        message = b"Message-ID: <%d@example.org>\r\nSubject: x\r\n\r\n" % self.sent + body
        return await self.pool.submit(
            OutgoingMail("taskbell@example.org", recipient, message), before_data or self.marker
        )

    @property
    def accepted(self) -> list[str]:
        """Message-IDs in the order in which the server accepted them."""
        return [message.message_id for message in self.server.accepted]


OpenHarness = Callable[..., Awaitable[PoolHarness]]
"""Makes a PoolHarness for a server; keyword arguments are those of SmtpSettings."""
