"""The notifier's metrics. Constructed once a process, never at import."""

from prometheus_client import Counter, Gauge, Histogram

from taskbell.metrics import LATENCY, Metrics
from taskbell_notifier.lifecycle import DeliveryState


class Measures:
    """What the notifier counts."""

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self.mails = Counter(
            "taskbell_mails",
            "What became of mails, by kind and state; retry, unknown, planned are not their end",
            ["kind", "state"],
            registry=registry,
        )
        self.resends = Counter(
            "taskbell_mail_resends", "Mails handed over again because their outcome was unknown", registry=registry
        )
        self.outcomes_lost = Counter(
            "taskbell_mail_outcomes_lost",
            "Outcomes that could not be written: another process had taken the row, or none could be reached",
            registry=registry,
        )
        self.swept = Counter(
            "taskbell_mails_swept", "What sweepers did about rows that had waited", ["action"], registry=registry
        )
        self.planned = Counter("taskbell_mails_planned", "Ledger rows written", ["kind"], registry=registry)
        self.submissions = Counter(
            "taskbell_smtp_submissions", "How handing a mail over ended, by verdict", ["verdict"], registry=registry
        )
        self.submission_seconds = Histogram(
            "taskbell_smtp_submission_seconds",
            "Seconds from wanting a session to the verdict",
            buckets=LATENCY,
            registry=registry,
        )
        self.sessions_opened = Counter("taskbell_smtp_sessions_opened", "SMTP sessions opened", registry=registry)
        self.sessions_refused = Counter(
            "taskbell_smtp_sessions_refused", "SMTP sessions that could not be opened", registry=registry
        )
        self.sessions_closed = Counter(
            "taskbell_smtp_sessions_closed", "SMTP sessions that ended, and why", ["why"], registry=registry
        )
        self.sending = Gauge(
            "taskbell_smtp_sending", "1 while mail may be sent, 0 while sending is paused", registry=registry
        )
        self.sending.set(1)

    def changed(self, kind: str, state: DeliveryState) -> None:
        """A row was written."""
        self.mails.labels(kind, state.value).inc()
