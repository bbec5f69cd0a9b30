"""SQLModel tables: those of the web app that Taskbell reads, and Taskbell's own."""

from taskbell.models.app import APP, AppModel, Project, Task, User
from taskbell.models.ledger import Answering, AwaitedCommand, Delivery, Mailing, Preference, Refusal, Suppression
from taskbell.models.own import (
    OWN,
    ArchiveBatch,
    ArchivedTask,
    Command,
    Occurrence,
    Outbox,
    OwnModel,
    RefusedCommand,
    Report,
    ScheduleState,
)

__all__ = [
    "APP",
    "OWN",
    "Answering",
    "AppModel",
    "ArchiveBatch",
    "ArchivedTask",
    "AwaitedCommand",
    "Command",
    "Delivery",
    "Mailing",
    "Occurrence",
    "Outbox",
    "OwnModel",
    "Preference",
    "Project",
    "Refusal",
    "RefusedCommand",
    "Report",
    "ScheduleState",
    "Suppression",
    "Task",
    "User",
]
