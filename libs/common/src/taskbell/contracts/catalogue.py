"""The table of all messages, from which topology, publishing, documentation and the command line are made."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from taskbell.contracts import commands, events
from taskbell.contracts.base import Contract

EVENTS = "taskbell.events"
COMMANDS = "taskbell.commands"


@dataclass(frozen=True, slots=True)
class Message:
    """One row of the table of messages."""

    routing_key: str
    kind: Literal["event", "command"]
    contract: type[Contract]
    publishers: str
    """Who publishes it, in words."""
    meaning: str
    consumer: str | None
    """The service that has a queue for it; None: an outcome to which anybody may bind a queue."""
    by_anyone: bool
    """Whether a web app, a person and every schedule may publish it."""
    published_by: tuple[str, ...] = ()
    """Services that may publish it besides: of ours, notifier and maintenance; of a package, its own."""

    @property
    def exchange(self) -> str:
        """The topic exchange that it is published to."""
        return EVENTS if self.kind == "event" else COMMANDS

    @property
    def queue(self) -> str | None:
        """Its queue, named `service.message`, or None where this page names none."""
        if self.consumer is None:
            return None
        name = self.routing_key.removeprefix(f"{self.consumer}.").replace(".", "_")
        return f"{self.consumer}.{name}"

    @property
    def has_outcome(self) -> bool:
        """A command whose outcome is kept and sent to whoever asks; the notifier's own batches have none."""
        return self.kind == "command" and self.by_anyone

    @property
    def mandatory(self) -> bool:
        """A message for which a queue is named must be routed; returned, it stays in the outbox."""
        return self.consumer is not None


def _event(key: str, contract: type[Contract], publishers: str, meaning: str, consumer: str | None) -> Message:
    by_anyone = key.endswith(".due")
    return Message(key, "event", contract, publishers, meaning, consumer, by_anyone, () if by_anyone else (publishers,))


_ANYONE = "scheduler, or anyone"

_MESSAGES = (
    _event("reminder.due", events.ReminderDue, _ANYONE, "it is time for the reminders", "notifier"),
    _event("overdue.due", events.OverdueDue, _ANYONE, "it is time for the overdue alerts", "notifier"),
    _event("weekly.due", events.WeeklyDue, _ANYONE, "it is time for the weekly summary", "notifier"),
    _event(
        "mailing.completed",
        events.MailingCompleted,
        "notifier",
        "a mailing's last mail reached its end",
        None,
    ),
    _event("mail.failed", events.MailFailed, "notifier", "one mail ended failed or expired", None),
    _event("report.generated", events.ReportGenerated, "maintenance", "a report is stored", "notifier"),
    _event("tasks.archived", events.TasksArchived, "maintenance", "a cleanup is done (no dry run)", None),
    _event(
        "task.status_changed",
        events.TaskStatusChanged,
        "maintenance",
        "a task's status changed (not: unchanged)",
        None,
    ),
    Message(
        "maintenance.generate_task_report",
        "command",
        commands.GenerateTaskReport,
        "scheduler, anyone",
        "make the daily report",
        "maintenance",
        by_anyone=True,
    ),
    Message(
        "maintenance.cleanup_completed_tasks",
        "command",
        commands.CleanupCompletedTasks,
        "scheduler, anyone",
        "archive old completed tasks",
        "maintenance",
        by_anyone=True,
    ),
    Message(
        "maintenance.update_task_status",
        "command",
        commands.UpdateTaskStatus,
        "web app, anyone",
        "change one task's status",
        "maintenance",
        by_anyone=True,
    ),
    Message(
        "notifier.send_test_mail",
        "command",
        commands.SendTestMail,
        "anyone",
        "prove that mail works",
        "notifier",
        by_anyone=True,
    ),
    Message(
        "notifier.send_batch",
        "command",
        commands.SendBatch,
        "notifier",
        "send these ledger rows",
        "notifier",
        by_anyone=False,
        published_by=("notifier",),
    ),
)

CATALOGUE: Mapping[str, Message] = MappingProxyType({message.routing_key: message for message in _MESSAGES})
"""Every message by its routing key."""

_BY_CONTRACT: Mapping[type[Contract], Message] = MappingProxyType({message.contract: message for message in _MESSAGES})


def message_of(body: Contract) -> Message:
    """The catalogue's row of a body. Raises KeyError where it is no message's contract."""
    return _BY_CONTRACT[type(body)]
