"""A task as one entry of a mail's list."""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from taskbell_notifier.domain import Task, days_overdue, local
from taskbell_notifier.mail import clean
from taskbell_notifier.mail.frame import LINE_LENGTH, Scene

_BULLET = 2
"""Width of "* " before a title in the text part, and of the indent below it."""


class TaskLine(NamedTuple):
    """One task, ready to be shown."""

    title: str
    text_title: str
    """The title in as many lines as the text part needs, each isolated by direction."""
    project: str | None
    text_project: str | None
    url: str | None
    due: str
    note: str
    """How far from now: "in 5 hours", "3 days overdue"."""
    meta: str
    """Priority and status in words."""
    when: str
    """Date and distance in one line, for the text part."""


Entry = Callable[[Scene, Task, datetime], TaskLine]
"""Makes the entry of a task and its due date."""


def upcoming(at: Scene, task: Task, due: datetime) -> TaskLine:
    """A task with its date, and how long it is until then."""
    here = local(due, at.recipient.zone)
    dates = at.voice.dates
    moment = dates.moment(here.date(), here.hour, here.minute, at.local.year)
    distance = dates.distance(due - at.now)
    return _line(at, task, moment, distance, f"{moment} ({distance})")


def of_the_day(at: Scene, task: Task, due: datetime) -> TaskLine:
    """A task in a list that names the day already."""
    here = local(due, at.recipient.zone)
    time = at.voice.dates.time(here.hour, here.minute)
    return _line(at, task, time, "", time)


def late(at: Scene, task: Task, due: datetime) -> TaskLine:
    """An overdue task, with its days by the calendar of the recipient."""
    if due > at.now:  # the mailing's time lies ahead: it is asked for by hand, for tomorrow say
        return upcoming(at, task, due)
    here = local(due, at.recipient.zone)
    day = here.date()
    days = days_overdue(due, at.now, at.recipient.zone)
    dates = at.voice.dates
    if days:
        was_due = at.voice.gettext("was due %(date)s") % {"date": dates.day(day, at.local.year)}
    else:
        was_due = at.voice.gettext("was due at %(time)s") % {"time": dates.time(here.hour, here.minute)}
    note = at.voice.days_overdue(days)
    return _line(at, task, was_due, note, f"{note}, {was_due}")


def _line(at: Scene, task: Task, due: str, note: str, when: str) -> TaskLine:
    title = shown_title(at, task)
    project = clean.title(task.project, clean.PROJECT_GRAPHEMES) if task.project else None
    return TaskLine(
        title,
        _in_text(title),
        project,
        clean.isolate(project) if project else None,
        at.house.links.task(task.id),
        due,
        note,
        at.voice.meta(task.priority, task.status),
        when,
    )


def shown_title(at: Scene, task: Task, graphemes: int = clean.TITLE_GRAPHEMES) -> str:
    """The title, fit to be shown; where nothing of it can be, words that say so."""
    return clean.title(task.title, graphemes) or at.voice.gettext("(no title)")


def _in_text(title: str) -> str:
    room = LINE_LENGTH - _BULLET - 2  # two for the isolates
    if len(title) <= room:
        return clean.isolate(title)
    return f"\n{' ' * _BULLET}".join(map(clean.isolate, clean.wrap(title, room)))
