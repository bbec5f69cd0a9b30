"""Commands: requests, in the imperative. Exchange `taskbell.commands`."""

import datetime as dt
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from taskbell.contracts.base import Contract, Id, Moment, Text
from taskbell.contracts.message import Message


class TaskStatus(StrEnum):
    """The statuses that a task can be given. Reports count any other status of the app's tables under its own name."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    DONE = "done"
    CANCELLED = "cancelled"


# Not strict: JSON has no enums, and strict mode would take nothing else.
Status = Annotated[TaskStatus, Field(strict=False)]


class GenerateTaskReport(Contract):
    """Make the daily report."""

    occurrence: Moment | None = None
    date: dt.date | None = None
    """Absent: the local date, in TIMEZONE, of `occurrence`; without an occurrence, of the command's arrival."""


class CleanupCompletedTasks(Contract):
    """Archive, or delete, tasks that were completed long ago."""

    occurrence: Moment | None = None
    older_than_days: Annotated[int, Field(ge=0, le=36_500)] | None = None
    """Absent: RETENTION_DAYS."""
    mode: Literal["archive", "delete"] = "archive"
    dry_run: bool = False
    force: bool = False
    """Allows the cleanup to take more than CLEANUP_MAX_SHARE of all tasks."""


class UpdateTaskStatus(Contract):
    """Change one task's status."""

    task_id: Id
    new_status: Status
    expected_status: Status | None = None
    """If set, the change is refused if the task has another status."""
    requested_by: Text | None = None


class SendTestMail(Contract):
    """Prove that mail works, by one mail to one address."""

    # One address on one line; if it is one that can be mailed, the notifier decides.
    to: Annotated[Text, Field(min_length=3, max_length=320, pattern=r'^("[^\r\n]+"|[^\s@＠﹫]+)[@＠﹫][^\s@＠﹫]+$')]


class ReportBounce(Contract):
    """A mail came back, or its recipient complained, after the mail server had taken it."""

    type: Literal["hard", "soft", "complaint"]
    """hard: the address will never take mail. soft: it did not take this one; only counted."""
    message_id: Text | None = None
    """The mail's Message-ID, with or without angle brackets. Its unguessable part proves that the mail was ours."""
    address: Text | None = None
    """Instead, or in addition: the address that the mail went to, within the last 30 days."""
    reason: Text | None = None
    """What the other side said."""


class SendBatch(Contract):
    """Send these rows of the ledger. Only the notifier publishes it."""

    delivery_ids: Annotated[tuple[Id, ...], Field(min_length=1, max_length=100, strict=False)]


MESSAGES = (
    Message(
        "maintenance.generate_task_report",
        "command",
        GenerateTaskReport,
        "scheduler, anyone",
        "make the daily report",
        "maintenance",
        by_anyone=True,
    ),
    Message(
        "maintenance.cleanup_completed_tasks",
        "command",
        CleanupCompletedTasks,
        "scheduler, anyone",
        "archive old completed tasks",
        "maintenance",
        by_anyone=True,
    ),
    Message(
        "maintenance.update_task_status",
        "command",
        UpdateTaskStatus,
        "web app, anyone",
        "change one task's status",
        "maintenance",
        by_anyone=True,
    ),
    Message(
        "notifier.send_test_mail",
        "command",
        SendTestMail,
        "anyone",
        "prove that mail works",
        "notifier",
        by_anyone=True,
    ),
    Message(
        "notifier.report_bounce",
        "command",
        ReportBounce,
        "anyone",
        "a mail came back later",
        "notifier",
        by_anyone=True,
    ),
    Message(
        "notifier.send_batch",
        "command",
        SendBatch,
        "notifier",
        "send these ledger rows",
        "notifier",
        by_anyone=False,
        published_by=("notifier",),
    ),
)
"""The commands' rows of the catalogue."""
