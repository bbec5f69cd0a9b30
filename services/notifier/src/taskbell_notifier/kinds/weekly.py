"""The weekly summary: how a person's week looks."""

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
"""Whom it goes to."""

WHAT = AssignedTasks(
    lists={"overdue": TaskList(Due(None, NOW), limit=5), "upcoming": TaskList(Due(NOW, WEEK), limit=10)},
    counts={"pending": Open(PENDING), "in_progress": Open(IN_PROGRESS), "completed": Completed(-WEEK, NOW)},
)


class Day(NamedTuple):
    """What falls due on one day."""

    name: str
    tasks: tuple[tasks.TaskLine, ...]


class WeeklyProps(NamedTuple):
    """What the templates see."""

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
    """What it is called."""
    return KindWords(
        title=_("Weekly summaries"),
        reason=_("You get this mail once a week because tasks are assigned to you."),
        unsubscribe=_("Unsubscribe from weekly summaries"),
        unsubscribed=_("%(product)s sends you no more weekly summaries. You can close this page."),
    )


def compose(context: WritingContext, content: Found) -> MailText:
    """Counts, the days to come, and what is overdue."""
    voice, monday = context.voice, local_week(context.at, context.recipient.zone)
    return MailText(
        subject=voice.gettext("Your week: %(summary)s") % {"summary": _summary(context, content)},
        heading=voice.gettext("Your week"),
        lead=voice.gettext("The week of %(date)s at a glance.") % {"date": context.day(monday)},
        teasers=_teasers(context, content),
        button=Button(voice.gettext("Plan my week"), context.app_url),
        props=_props(context, content),
    )


def _props(context: WritingContext, content: Found) -> WeeklyProps:
    overdue, upcoming = content.lists["overdue"], content.lists["upcoming"]
    zone = context.recipient.zone
    days = tuple(
        Day(context.day(day), tasks.lines(context, due, tasks.of_the_day))
        for day, due in groupby(upcoming.tasks, lambda task: local(tasks.due_of(task), zone).date())
    )
    number = context.voice.dates.number
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
    voice = context.voice
    overdue, due = content.lists["overdue"].total, content.lists["upcoming"].total
    parts = []
    if overdue:
        parts.append(voice.plural("%(n)s overdue", "%(n)s overdue", overdue))
    if due:
        parts.append(voice.plural("%(n)s due", "%(n)s due", due))
    if parts:
        return ", ".join(parts)
    if opened := content.counts["pending"] + content.counts["in_progress"]:
        return voice.plural("%(n)s open task", "%(n)s open tasks", opened)
    return voice.plural("%(n)s task completed", "%(n)s tasks completed", content.counts["completed"])


def _teasers(context: WritingContext, content: Found) -> tuple[str, ...]:
    voice = context.voice
    counts = (
        (voice.gettext("Pending"), content.counts["pending"]),
        (voice.gettext("In progress"), content.counts["in_progress"]),
        (voice.gettext("Completed in the last 7 days"), content.counts["completed"]),
    )
    return tuple([f"{name}: {voice.dates.number(count)}" for name, count in counts if count])


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
