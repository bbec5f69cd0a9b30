"""The weekly summary: the tasks of one user and week."""

from datetime import timedelta
from itertools import groupby
from typing import NamedTuple

from taskbell.contracts import WeeklyDue
from taskbell.kinds import (
    NOW,
    WEEK,
    AssignedTasks,
    Button,
    Completed,
    Due,
    Found,
    Gettext,
    Kind,
    KindWords,
    MailText,
    Open,
    Period,
    TaskList,
)
from taskbell_notifier.domain import IN_PROGRESS, PENDING, local, local_week
from taskbell_notifier.kinds.sample import sample
from taskbell_notifier.mail import tasks
from taskbell_notifier.mail.context import WritingContext

WEEKLY = (Open(), Completed(-WEEK, NOW))
"""Who gets it."""

WHAT = AssignedTasks(
    lists={"overdue": TaskList(Due(None, NOW), limit=5), "upcoming": TaskList(Due(NOW, WEEK), limit=10)},
    counts={"pending": Open(PENDING), "in_progress": Open(IN_PROGRESS), "completed": Completed(-WEEK, NOW)},
)


class Day(NamedTuple):
    """The tasks due on one day."""

    name: str
    tasks: tuple[tasks.TaskLine, ...]


class WeeklyProps(NamedTuple):
    """The props of the templates."""

    pending: str
    in_progress: str
    completed: str
    overdue_count: str
    days: tuple[Day, ...]
    more: str
    more_url: str | None
    overdue: tuple[tasks.TaskLine, ...]
    overdue_more: str


def words(_: Gettext) -> KindWords:
    """The names and sentences of this kind."""
    return KindWords(
        title=_("Weekly summaries"),
        reason=_("You get this mail once a week because tasks are assigned to you."),
        unsubscribe=_("Unsubscribe from weekly summaries"),
        unsubscribed=_("%(product)s sends you no more weekly summaries. You can close this page."),
    )


def compose(context: WritingContext, content: Found) -> MailText:
    """Shows counts, the tasks of the days to come, and overdue tasks."""
    localizer, monday = context.localizer, local_week(context.at, context.recipient.zone)
    return MailText(
        subject=localizer.gettext("Your week: %(summary)s") % {"summary": _summary(context, content)},
        heading=localizer.gettext("Your week"),
        lead=localizer.gettext("The week of %(date)s at a glance.") % {"date": context.day(monday)},
        teasers=_teasers(context, content),
        button=Button(localizer.gettext("Plan my week"), context.app_url),
        props=_props(context, content),
    )


def _props(context: WritingContext, content: Found) -> WeeklyProps:
    overdue, upcoming = content.lists["overdue"], content.lists["upcoming"]
    zone = context.recipient.zone
    days = tuple(
        Day(context.day(day), tasks.lines(context, due, tasks.of_the_day))
        for day, due in groupby(upcoming.tasks, lambda task: local(tasks.due_of(task), zone).date())
    )
    number = context.localizer.dates.number
    return WeeklyProps(
        pending=number(content.counts["pending"]),
        in_progress=number(content.counts["in_progress"]),
        completed=number(content.counts["completed"]),
        overdue_count=number(overdue.total),
        days=days,
        more=tasks.more(context, upcoming.more),
        more_url=context.app_url,
        overdue=tasks.lines(context, overdue.tasks, tasks.late),
        overdue_more=tasks.more(context, overdue.more),
    )


def _summary(context: WritingContext, content: Found) -> str:
    localizer = context.localizer
    overdue, due = content.lists["overdue"].total, content.lists["upcoming"].total
    parts = []
    if overdue:
        parts.append(localizer.plural("%(n)s overdue", "%(n)s overdue", overdue))
    if due:
        parts.append(localizer.plural("%(n)s due", "%(n)s due", due))
    if parts:
        return ", ".join(parts)
    if opened := content.counts["pending"] + content.counts["in_progress"]:
        return localizer.plural("%(n)s open task", "%(n)s open tasks", opened)
    return localizer.plural("%(n)s task completed", "%(n)s tasks completed", content.counts["completed"])


def _teasers(context: WritingContext, content: Found) -> tuple[str, ...]:
    localizer = context.localizer
    counts = (
        (localizer.gettext("Pending"), content.counts["pending"]),
        (localizer.gettext("In progress"), content.counts["in_progress"]),
        (localizer.gettext("Completed in the last 7 days"), content.counts["completed"]),
    )
    return tuple([f"{name}: {localizer.dates.number(count)}" for name, count in counts if count])


KIND = Kind(
    name="weekly",
    event=WeeklyDue,
    who=WEEKLY,
    what=WHAT,
    period=Period.WEEK,
    expiry=timedelta(hours=48),
    words=words,
    compose=compose,
    sample=lambda now: sample(WHAT, now),
    unsubscribe=3,
    package="taskbell_notifier.mail",
)
