"""What each mail says: from a selection of tasks to the typed props of its templates."""

from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

from taskbell.contracts import MailKind
from taskbell_notifier.domain import Overdue, Reminder, Task, Weekly, local, local_week
from taskbell_notifier.mail import clean, tasks
from taskbell_notifier.mail.frame import Button, Frame, Scene, frame
from taskbell_notifier.mail.tasks import TaskLine

LISTED = 25
"""Tasks in a reminder or an overdue mail; the others are counted."""
WEEK_LISTED = 10
WEEK_OVERDUE_LISTED = 5
_TEASER_GRAPHEMES = 45
_NO_YEAR = 0
"""As the year that goes without saying: every date is written with its own."""


class TaskListMail(NamedTuple):
    """A reminder or an overdue alert."""

    frame: Frame
    tasks: tuple[TaskLine, ...]
    more: str
    """ "and 12 more", or ""."""
    more_url: str | None


class Day(NamedTuple):
    """What falls due on one day."""

    name: str
    tasks: tuple[TaskLine, ...]


class WeeklyMail(NamedTuple):
    """The weekly summary."""

    frame: Frame
    pending: str
    in_progress: str
    completed: str
    overdue_count: str
    days: tuple[Day, ...]
    more: str
    more_url: str | None
    overdue: tuple[TaskLine, ...]
    overdue_more: str


class ProofMail(NamedTuple):
    """The proof that mail works."""

    frame: Frame
    sent: str


def reminder_mail(at: Scene, content: Reminder) -> TaskListMail:
    """What falls due within a day, by due time."""
    voice, count = at.voice, len(content.tasks) + content.more
    lines = _lines(at, content.tasks, LISTED, tasks.upcoming)
    first = lines[0]
    return TaskListMail(
        frame=frame(
            at,
            MailKind.REMINDER,
            subject=_reminder_subject(at, content.tasks[0])
            if count == 1
            else voice.plural("%(n)s task due in the next 24 hours", "%(n)s tasks due in the next 24 hours", count),
            heading=voice.gettext("Due in the next 24 hours"),
            lead=voice.plural(
                "One of your tasks falls due soon.", "%(n)s of your tasks fall due soon, the next one first.", count
            ),
            teasers=(_teaser(first), first.when, _more(at, count - 1)),
            button=Button(voice.gettext("Open my tasks"), at.house.links.app_url),
        ),
        tasks=lines,
        more=_more(at, count - len(lines)),
        more_url=at.house.links.app_url,
    )


def overdue_mail(at: Scene, content: Overdue) -> TaskListMail:
    """What is overdue, longest first."""
    voice, links, count = at.voice, at.house.links, len(content.tasks) + content.more
    lines = _lines(at, content.tasks, LISTED, tasks.late)
    first = lines[0]
    counted = voice.plural("%(n)s overdue task", "%(n)s overdue tasks", count)
    return TaskListMail(
        frame=frame(
            at,
            MailKind.OVERDUE,
            subject=voice.gettext("Overdue: %(title)s") % {"title": _subject_title(at, content.tasks[0])}
            if count == 1
            else counted,
            heading=counted,
            lead=voice.plural(
                "This task is still open. If its date no longer fits, choose another one.",
                "These tasks are still open, longest overdue first. Where a date no longer fits, choose another one.",
                count,
            ),
            teasers=(_teaser(first), first.note, _more(at, count - 1)),
            button=Button(voice.gettext("Open task"), first.url or links.app_url)
            if count == 1
            else Button(voice.gettext("Open tasks"), links.app_url),
        ),
        tasks=lines,
        more=_more(at, count - len(lines)),
        more_url=links.app_url,
    )


def weekly_mail(at: Scene, content: Weekly, occurrence: datetime) -> WeeklyMail:
    """How the week looks that `occurrence` (T) falls in."""
    voice, links = at.voice, at.house.links
    zone = at.recipient.zone
    shown = content.upcoming[:WEEK_LISTED]
    days = tuple(
        Day(voice.dates.day(day, at.local.year), _lines(at, tuple(due), WEEK_LISTED, tasks.of_the_day))
        for day, due in groupby(shown, lambda task: local(_due(task), zone).date())
    )
    overdue = _lines(at, content.overdue, WEEK_OVERDUE_LISTED, tasks.late)
    overdue_count, upcoming_count = _week_counts(content)
    monday = voice.dates.day(local_week(occurrence, zone), at.local.year)
    number = voice.dates.number
    return WeeklyMail(
        frame=frame(
            at,
            MailKind.WEEKLY,
            subject=voice.gettext("Your week: %(summary)s") % {"summary": _week_summary(at, content)},
            heading=voice.gettext("Your week"),
            lead=voice.gettext("The week of %(date)s at a glance.") % {"date": monday},
            teasers=_week_teasers(at, content),
            button=Button(voice.gettext("Plan my week"), links.app_url),
        ),
        pending=number(content.pending),
        in_progress=number(content.in_progress),
        completed=number(content.completed),
        overdue_count=number(overdue_count),
        days=days,
        more=_more(at, upcoming_count - len(shown)),
        more_url=links.app_url,
        overdue=overdue,
        overdue_more=_more(at, overdue_count - len(overdue)),
    )


def proof_mail(at: Scene) -> ProofMail:
    """A mail that says that mails arrive."""
    voice, product = at.voice, at.house.product
    here = at.local
    moment = voice.dates.moment(here.date(), here.hour, here.minute, _NO_YEAR)
    return ProofMail(
        frame=frame(
            at,
            MailKind.TEST,
            subject=voice.gettext("Test mail from %(product)s") % {"product": product},
            heading=voice.gettext("Mail works"),
            lead=voice.gettext("%(product)s can send mail, and this one has reached you. There is nothing to do.")
            % {"product": product},
            teasers=(),
        ),
        sent=voice.gettext("Written on %(date)s.") % {"date": moment},
    )


def _lines(at: Scene, found: tuple[Task, ...], limit: int, entry: tasks.Entry) -> tuple[TaskLine, ...]:
    return tuple([entry(at, task, _due(task)) for task in found[:limit]])


def _due(task: Task) -> datetime:
    if task.due_date is None:
        msg = f"task {task.id} has no due date and cannot be listed by it"
        raise ValueError(msg)
    return task.due_date


def _subject_title(at: Scene, task: Task) -> str:
    return tasks.shown_title(at, task, clean.SUBJECT_TITLE_GRAPHEMES)


def _teaser(line: TaskLine) -> str:
    return clean.isolate(clean.cut(line.title, _TEASER_GRAPHEMES))


def _more(at: Scene, count: int) -> str:
    return at.voice.plural("and %(n)s more", "and %(n)s more", count) if count > 0 else ""


def _reminder_subject(at: Scene, task: Task) -> str:
    due = _due(task)
    here = local(due, at.recipient.zone)
    _, dates = at.voice.gettext, at.voice.dates
    values = {"title": _subject_title(at, task), "time": dates.time(here.hour, here.minute)}
    if here.date() == at.local.date():
        return _("Due today %(time)s: %(title)s") % values
    if here.date() == at.local.date() + timedelta(days=1):
        return _("Due tomorrow %(time)s: %(title)s") % values
    values["date"] = dates.moment(here.date(), here.hour, here.minute, at.local.year)
    if due < at.now:
        return _("Was due %(date)s: %(title)s") % values
    return _("Due %(date)s: %(title)s") % values


def _week_counts(content: Weekly) -> tuple[int, int]:
    """Overdue and upcoming tasks, listed or not."""
    return len(content.overdue) + content.more_overdue, len(content.upcoming) + content.more_upcoming


def _week_summary(at: Scene, content: Weekly) -> str:
    voice = at.voice
    overdue, due = _week_counts(content)
    parts = []
    if overdue:
        parts.append(voice.plural("%(n)s overdue", "%(n)s overdue", overdue))
    if due:
        parts.append(voice.plural("%(n)s due", "%(n)s due", due))
    if parts:
        return ", ".join(parts)
    if content.pending or content.in_progress:
        return voice.plural("%(n)s open task", "%(n)s open tasks", content.pending + content.in_progress)
    return voice.plural("%(n)s task completed", "%(n)s tasks completed", content.completed)


def _week_teasers(at: Scene, content: Weekly) -> tuple[str, ...]:
    voice = at.voice
    counts = (
        (voice.gettext("Pending"), content.pending),
        (voice.gettext("In progress"), content.in_progress),
        (voice.gettext("Completed in the last 7 days"), content.completed),
    )
    return tuple([f"{name}: {voice.dates.number(count)}" for name, count in counts if count])
