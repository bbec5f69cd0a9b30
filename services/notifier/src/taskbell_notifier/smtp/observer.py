"""What the SMTP side tells whoever counts, logs or reports health. Nothing here may raise or block."""

from taskbell_notifier.smtp.breaker import Status
from taskbell_notifier.smtp.replies import Submission


class Observer:
    """Told of everything that happens; override what you care for."""

    def session_opened(self, seconds: float) -> None:
        """A session was opened (connection, TLS and AUTH took that long)."""

    def session_refused(self, refusal: Submission, seconds: float) -> None:
        """No session could be opened."""

    def session_closed(self, why: str) -> None:
        """A session ended: "worn" (its mails are used up), "idle", "lost", "probe" or "shutdown"."""

    def submitted(self, submission: Submission, seconds: float) -> None:
        """A submission ended, also one that was cancelled; `seconds` from the call to the verdict."""

    def breaker_changed(self, status: Status) -> None:
        """Sending was paused, is being resumed, or is as it should be again."""
