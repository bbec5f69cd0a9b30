"""Handing mails over to an SMTP server, and saying exactly how each handing over ended.

    SmtpPool.submit ── gate, pace ── Session ── transact ── Conversation ── the wire
         │                             └ opened by aiosmtplib: connect, TLS, EHLO, AUTH
         └ Breaker: pauses after faults, probes, resumes

`replies.py` holds the table from replies to verdicts; `retries.py` when a mail is tried again.
"""

from taskbell_notifier.smtp.breaker import Breaker, State, Status, Waits
from taskbell_notifier.smtp.envelope import Envelope
from taskbell_notifier.smtp.observer import Observer
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.smtp.replies import Loss, Reply, Stage, Submission, Verdict
from taskbell_notifier.smtp.retries import retry_delay
from taskbell_notifier.smtp.settings import SmtpSettings
from taskbell_notifier.smtp.transaction import BeforeData

__all__ = [
    "BeforeData",
    "Breaker",
    "Envelope",
    "Loss",
    "Observer",
    "Reply",
    "SmtpPool",
    "SmtpSettings",
    "Stage",
    "State",
    "Status",
    "Submission",
    "Verdict",
    "Waits",
    "retry_delay",
]
