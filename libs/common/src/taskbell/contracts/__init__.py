"""The contract: every message that travels between the services, and who may publish it."""

from taskbell.contracts.base import MAX_BODY_BYTES, Contract
from taskbell.contracts.catalogue import CATALOGUE, COMMANDS, EVENTS, Message
from taskbell.contracts.commands import (
    CleanupCompletedTasks,
    GenerateTaskReport,
    ReportBounce,
    SendBatch,
    SendTestMail,
    TaskStatus,
    UpdateTaskStatus,
)
from taskbell.contracts.events import (
    MailFailed,
    MailingCompleted,
    MailingDue,
    MailKind,
    OverdueDue,
    ReminderDue,
    ReportGenerated,
    TasksArchived,
    TaskStatusChanged,
    UserEvent,
    WeeklyDue,
)
from taskbell.contracts.outcome import REPLY_TYPE, CommandOutcome, CommandState

__all__ = [
    "CATALOGUE",
    "COMMANDS",
    "EVENTS",
    "MAX_BODY_BYTES",
    "REPLY_TYPE",
    "CleanupCompletedTasks",
    "CommandOutcome",
    "CommandState",
    "Contract",
    "GenerateTaskReport",
    "MailFailed",
    "MailKind",
    "MailingCompleted",
    "MailingDue",
    "Message",
    "OverdueDue",
    "ReminderDue",
    "ReportBounce",
    "ReportGenerated",
    "SendBatch",
    "SendTestMail",
    "TaskStatus",
    "TaskStatusChanged",
    "TasksArchived",
    "UpdateTaskStatus",
    "UserEvent",
    "WeeklyDue",
]
