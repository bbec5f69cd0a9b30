"""A mail to somebody who was assigned a task, as soon as the web app says so."""

from datetime import datetime, timedelta
from typing import NamedTuple

from taskbell.extend import (
    Button,
    Extension,
    Gettext,
    Kind,
    KindWords,
    MailContext,
    MailText,
    Message,
    NamedTask,
    NamedUser,
    Period,
    Task,
    UserEvent,
)


class TaskAssigned(UserEvent):
    """A task was assigned to a user. As its key, name the assignment: its row's id, or task and moment."""


class Props(NamedTuple):
    """What the templates see as `mail`."""

    task: object


def words(_: Gettext) -> KindWords:
    """What these mails are called."""
    return KindWords(
        title=_("Assigned to you"),
        reason=_("You get this mail because somebody assigned this task to you."),
        unsubscribe=_("Unsubscribe from mails about assigned tasks"),
        unsubscribed=_("%(product)s sends you no more mails about tasks assigned to you. You can close this page."),
    )


def compose(context: MailContext, task: Task) -> MailText:
    """The task."""
    return MailText(
        subject=context.gettext("Assigned to you: %(title)s") % {"title": context.title(task)},
        heading=context.gettext("Assigned to you"),
        lead=context.gettext("This task is yours now."),
        button=Button(context.gettext("Open task"), context.task_url(task.id)),
        props=Props(context.task_line(task)),
    )


def sample(now: datetime) -> Task:
    """A task for `taskbell mail preview`."""
    row = {"id": 1, "title": "Review the release notes", "project": "Platform", "priority": "medium"}
    return Task.of({**row, "due_date": now + timedelta(days=3)})


extension = Extension(
    messages=(
        Message(
            routing_key="task.assigned",
            kind="event",
            contract=TaskAssigned,
            publishers="the web app",
            meaning="a task was assigned to a user, who gets a mail about it",
            consumer="notifier",
            by_anyone=True,
        ),
    ),
    kinds=(
        Kind(
            name="assigned",
            event=TaskAssigned,
            who=NamedUser(),
            what=NamedTask(),
            period=Period.KEY,
            expiry=timedelta(hours=4),
            words=words,
            compose=compose,
            sample=sample,
            unsubscribe="assigned",
            package=__name__,
        ),
    ),
)
