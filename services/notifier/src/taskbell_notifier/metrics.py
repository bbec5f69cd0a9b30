"""The notifier's metrics. They are constructed once in a process, never at import."""

from prometheus_client import Counter, Gauge, Histogram

from taskbell.metrics import LATENCY, Metrics
from taskbell_notifier.lifecycle import DeliveryState


class NotifierMetrics:
    """The counters, histogram and gauge of the notifier."""

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self.mails = Counter(
            "taskbell_mails",
            "Mails by kind and the state that they took; retry, unknown and planned are not final",
            ["kind", "state"],
            registry=registry,
        )
        self.resends = Counter(
            "taskbell_mail_resends", "Mails handed over again because their outcome was unknown", registry=registry
        )
        self.outcomes_lost = Counter(
            "taskbell_mail_outcomes_lost",
            "Outcomes that were not written: another process had claimed the row, or PostgreSQL was away at shutdown",
            registry=registry,
        )
        self.swept = Counter(
            "taskbell_mails_swept",
            "Rows that sweepers found due, by what they did about them",
            ["action"],
            registry=registry,
        )
        self.planned = Counter("taskbell_mails_planned", "Ledger rows written", ["kind"], registry=registry)
        self.submissions = Counter(
            "taskbell_smtp_submissions", "Submissions of mails, by verdict", ["verdict"], registry=registry
        )
        self.submission_seconds = Histogram(
            "taskbell_smtp_submission_seconds",
            "Seconds from the submission of a mail to its verdict, including the wait for a session",
            buckets=LATENCY,
            registry=registry,
        )
        self.sessions_opened = Counter("taskbell_smtp_sessions_opened", "SMTP sessions opened", registry=registry)
        self.sessions_refused = Counter(
            "taskbell_smtp_sessions_refused", "SMTP sessions that could not be opened", registry=registry
        )
        self.sessions_closed = Counter(
            "taskbell_smtp_sessions_closed", "SMTP sessions that ended, by reason", ["why"], registry=registry
        )
        self.bounces = Counter(
            "taskbell_mail_bounces",
            "Bounces and complaints that notifier.report_bounce reported, by type",
            ["type"],
            registry=registry,
        )
        self.refused = Gauge(
            "taskbell_mails_refused_undecided",
            "Refusals of mails of which it is not known yet whose fault they are, as the ledger has them",
            registry=registry,
        )
        self.pace = Gauge(
            "taskbell_smtp_pace",
            "Mails a second that the notifier sends at most because the server throttled; 0 if it did not",
            registry=registry,
        )
        self.sending = Gauge(
            "taskbell_smtp_sending", "1 while mail may be sent, 0 while sending is paused", registry=registry
        )
        self.sending.set(1)
        self.suppressed = Gauge(
            "taskbell_mail_suppress_send",
            "1 if MAIL_SUPPRESS_SEND is set, so that no mail is sent, else 0",
            registry=registry,
        )

    def changed(self, kind: str, state: DeliveryState) -> None:
        """Counts a row that took this state."""
        self.mails.labels(kind, state.value).inc()
