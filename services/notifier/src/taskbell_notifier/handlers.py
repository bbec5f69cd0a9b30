"""From message to use case, one line each."""

from dataclasses import dataclass
from typing import Any

from taskbell.commands import CommandLog
from taskbell.contracts import OverdueDue, ReminderDue, ReportGenerated, SendBatch, SendTestMail, WeeklyDue
from taskbell.messaging.consuming.dispatcher import Subscription
from taskbell_notifier.delivery.sender import Sender
from taskbell_notifier.planning.mailings import Mailings
from taskbell_notifier.planning.report import ReportMails
from taskbell_notifier.planning.trial import TestMails


@dataclass(frozen=True, slots=True)
class UseCases:
    """Whom messages are handed to."""

    mailings: Mailings
    reports: ReportMails
    test_mails: TestMails
    sender: Sender
    log: CommandLog


def events_and_commands(use: UseCases) -> tuple[Subscription[Any], ...]:
    """What needs the database alone."""
    return (
        Subscription("notifier.reminder_due", ReminderDue, use.mailings.start, batch=20, prefetch=40),
        Subscription("notifier.overdue_due", OverdueDue, use.mailings.start, batch=20, prefetch=40),
        Subscription("notifier.weekly_due", WeeklyDue, use.mailings.start, batch=20, prefetch=40),
        Subscription("notifier.report_generated", ReportGenerated, use.reports.announce),
        Subscription(
            "notifier.send_test_mail",
            SendTestMail,
            use.test_mails.send,
            on_invalid=use.log.refuse,
            on_dead=use.log.fail,
        ),
    )


def batches(use: UseCases, *, at_once: int) -> tuple[Subscription[Any], ...]:
    """What needs the mail server too, so that its troubles hold up nothing else."""
    return (Subscription("notifier.send_batch", SendBatch, use.sender.send, workers=at_once, prefetch=at_once + 1),)
