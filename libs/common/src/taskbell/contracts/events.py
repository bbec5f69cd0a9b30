"""Events: facts, named in the past tense or as due. Exchange `taskbell.events`."""

import datetime as dt
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from taskbell.contracts.base import Contract, Id, Moment, Text, ZoneName
from taskbell.contracts.message import Message


class MailKind(StrEnum):
    """The kinds of mail that come with Taskbell. Their names are taken also if the notifier is not installed."""

    REMINDER = "reminder"
    OVERDUE = "overdue"
    WEEKLY = "weekly"
    REPORT = "report"
    TEST = "test"


KindName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
"""The name of a kind of mail. Installed packages bring their own kinds."""


class MailingDue(Contract):
    """It is time for a mailing."""

    occurrence: Moment | None = None
    """The mailing's time T. Absent: the event is a manual one, and T is the time at which its row is inserted."""
    timezone: ZoneName | None = None
    """Only recipients of this zone; required with `occurrence`."""
    user_ids: Annotated[tuple[Id, ...], Field(max_length=10_000, strict=False)] | None = None
    """Only these users; absent or null: all; empty: nobody."""
    force: bool = False
    """Overrides the rule of one mail per person and period, and nothing else."""

    @model_validator(mode="after")
    def _occurrence_needs_zone(self) -> Self:
        if self.occurrence is not None and self.timezone is None:
            msg = "occurrence needs timezone"
            raise ValueError(msg)
        return self


class ReminderDue(MailingDue):
    """It is time to remind people of tasks that fall due within a day."""


class OverdueDue(MailingDue):
    """It is time to alert people to overdue tasks."""


class WeeklyDue(MailingDue):
    """It is time for the weekly summary."""


class UserEvent(Contract):
    """Something happened that one user gets a mail about; the event of a kind of mail that a package brings."""

    user_id: Id
    task_id: Id
    key: Annotated[Text, Field(min_length=1, max_length=200)]
    """What happened, as an id of the publisher's own: a user gets one mail of that kind a key."""


class MailingCompleted(Contract):
    """A mailing's last mail reached its end."""

    mailing_id: Id
    kind: KindName
    occurrence: Moment | None
    """null: a manual event started it."""
    counts: dict[str, int]
    """Recipients by outcome: sent, skipped, suppressed, expired, failed; `already`: had this period's mail before."""
    note: Text | None = None
    """The reason why nobody was planned, unless it is only that nobody had a task to be mailed about."""


class MailFailed(Contract):
    """One mail ended failed or expired."""

    delivery_id: Id
    user_id: Id | None
    """null: the mail went to an address, not to a user."""
    kind: KindName
    reason: Text


class ReportGenerated(Contract):
    """A daily report is stored."""

    date: dt.date
    as_of: Moment


class TasksArchived(Contract):
    """A cleanup is done; a dry run publishes nothing."""

    batch_id: Id
    tasks: int
    held: int
    """Tasks that stayed because rows of other tables refer to them."""
    mode: Literal["archive", "delete"]


class TaskStatusChanged(Contract):
    """A task's status changed."""

    task_id: Id
    old_status: Text
    new_status: Text
    requested_by: Text | None


def _event(key: str, contract: type[Contract], publishers: str, meaning: str, consumer: str | None) -> Message:
    by_anyone = key.endswith(".due")
    return Message(key, "event", contract, publishers, meaning, consumer, by_anyone, () if by_anyone else (publishers,))


_ANYONE = "scheduler, or anyone"

MESSAGES = (
    _event("reminder.due", ReminderDue, _ANYONE, "it is time for the reminders", "notifier"),
    _event("overdue.due", OverdueDue, _ANYONE, "it is time for the overdue alerts", "notifier"),
    _event("weekly.due", WeeklyDue, _ANYONE, "it is time for the weekly summary", "notifier"),
    _event(
        "mailing.completed",
        MailingCompleted,
        "notifier",
        "a mailing's last mail reached its end",
        None,
    ),
    _event("mail.failed", MailFailed, "notifier", "one mail ended failed or expired", None),
    _event("report.generated", ReportGenerated, "maintenance", "a report is stored", "notifier"),
    _event("tasks.archived", TasksArchived, "maintenance", "a cleanup is done (no dry run)", None),
    _event(
        "task.status_changed",
        TaskStatusChanged,
        "maintenance",
        "a task's status changed (not: unchanged)",
        None,
    ),
)
"""The events' rows of the catalogue."""
