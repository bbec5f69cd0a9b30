"""The table from messages to use cases, one line for each message."""

from dataclasses import dataclass
from typing import Any

from taskbell.catalogue import row_of
from taskbell.commands import CommandLog
from taskbell.contracts import ReportBounce, ReportGenerated, SendBatch, SendTestMail
from taskbell.kinds import Kind
from taskbell.messaging.consuming.subscription import Handler, Subscription
from taskbell_notifier.delivery.bounces import Bounces
from taskbell_notifier.delivery.sender import Sender
from taskbell_notifier.kinds.table import Kinds
from taskbell_notifier.planning.mailings import Mailings
from taskbell_notifier.planning.report import ReportMails
from taskbell_notifier.planning.trial import TestMails


@dataclass(frozen=True, slots=True)
class UseCases:
    """The use cases that handle messages."""

    mailings: Mailings
    reports: ReportMails
    test_mails: TestMails
    bounces: Bounces
    sender: Sender
    commands: CommandLog


def events_and_commands(use: UseCases, kinds: Kinds) -> tuple[Subscription[Any], ...]:
    """The subscriptions that need only the database."""
    return (
        *(_mailing(kind, use.mailings.start) for kind in kinds.planned),
        *(_mailing(kind, use.mailings.announce) for kind in kinds.instant),
        Subscription("notifier.report_generated", ReportGenerated, use.reports.announce),
        Subscription(
            "notifier.send_test_mail",
            SendTestMail,
            use.test_mails.send,
            on_invalid=use.commands.refuse,
            on_dead=use.commands.fail,
        ),
        Subscription(
            "notifier.report_bounce",
            ReportBounce,
            use.bounces.report,
            batch=20,
            prefetch=40,
            on_invalid=use.commands.refuse,
            on_dead=use.commands.fail,
        ),
    )


def _mailing(kind: Kind, handle: Handler[Any]) -> Subscription[Any]:
    queue = row_of(kind.event).queue
    assert queue is not None, f"the event of {kind.name} has no queue"
    return Subscription(queue, kind.event, handle, batch=20, prefetch=40)


def batches(use: UseCases, *, workers: int) -> tuple[Subscription[Any], ...]:
    """The subscription that also needs the mail server, whose outages delay no other subscription."""
    return (Subscription("notifier.send_batch", SendBatch, use.sender.send, workers=workers, prefetch=workers + 1),)
