"""From message to use case, one line each."""

from dataclasses import dataclass
from typing import Any

from taskbell.catalogue import row_of
from taskbell.commands import CommandLog
from taskbell.contracts import ReportGenerated, SendBatch, SendTestMail
from taskbell.kinds import Kind
from taskbell.messaging.consuming.subscription import Handler, Subscription
from taskbell_notifier.delivery.sender import Sender
from taskbell_notifier.kinds.table import Kinds
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


def events_and_commands(use: UseCases, kinds: Kinds) -> tuple[Subscription[Any], ...]:
    """What needs the database alone."""
    return (
        *(_mailing(kind, use.mailings.start) for kind in kinds.planned),
        *(_mailing(kind, use.mailings.announce) for kind in kinds.instant),
        Subscription("notifier.report_generated", ReportGenerated, use.reports.announce),
        Subscription(
            "notifier.send_test_mail",
            SendTestMail,
            use.test_mails.send,
            on_invalid=use.log.refuse,
            on_dead=use.log.fail,
        ),
    )


def _mailing(kind: Kind, handle: Handler[Any]) -> Subscription[Any]:
    queue = row_of(kind.event).queue
    assert queue is not None, f"the event of {kind.name} has no queue"
    return Subscription(queue, kind.event, handle, batch=20, prefetch=40)


def batches(use: UseCases, *, at_once: int) -> tuple[Subscription[Any], ...]:
    """What needs the mail server too, so that its troubles hold up nothing else."""
    return (Subscription("notifier.send_batch", SendBatch, use.sender.send, workers=at_once, prefetch=at_once + 1),)
