"""Makes the entries of a mail's list of tasks."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

from taskbell.kinds import Listed, Task
from taskbell_notifier.domain import days_overdue, local
from taskbell_notifier.mail import clean
from taskbell_notifier.mail.context import WritingContext
from taskbell_notifier.mail.frame import LINE_LENGTH

_TEASER_GRAPHEMES = 45
_BULLET = 2
"""Width of "* " before a title in the text part, and of the indent below it."""


class TaskLine(NamedTuple):
    """One task, ready to be shown."""

    title: str
    text_title: str
    """The title for the text part, in as many lines as it needs, each isolated by direction."""
    project: str | None
    text_project: str | None
    url: str | None
    due: str
    note: str
    """The distance from now: "in 5 hours", "3 days overdue"."""
    meta: str
    """Priority and status in words."""
    when: str
    """Date and distance in one line, for the text part."""


Entry = Callable[[WritingContext, Task, datetime], TaskLine]
"""Makes the entry of a task and its due date."""


def upcoming(context: WritingContext, task: Task, due: datetime) -> TaskLine:
    """A task with its due date and the time until then."""
    here = local(due, context.recipient.zone)
    dates = context.localizer.dates
    moment = dates.moment(here.date(), here.hour, here.minute, context.local.year)
    distance = dates.distance(due - context.now)
    return _line(context, task, moment, distance, f"{moment} ({distance})")


def of_the_day(context: WritingContext, task: Task, due: datetime) -> TaskLine:
    """A task in a list under the name of its day."""
    here = local(due, context.recipient.zone)
    time = context.localizer.dates.time(here.hour, here.minute)
    return _line(context, task, time, "", time)


def late(context: WritingContext, task: Task, due: datetime) -> TaskLine:
    """An overdue task, with its calendar days overdue in the recipient's zone."""
    # T may be in the future if the mailing is asked for by hand, say for tomorrow.
    if due > context.now:
        return upcoming(context, task, due)
    here = local(due, context.recipient.zone)
    day = here.date()
    days = days_overdue(due, context.now, context.recipient.zone)
    dates = context.localizer.dates
    if days:
        was_due = context.localizer.gettext("was due %(date)s") % {"date": dates.day(day, context.local.year)}
    else:
        was_due = context.localizer.gettext("was due at %(time)s") % {"time": dates.time(here.hour, here.minute)}
    note = context.localizer.days_overdue(days)
    return _line(context, task, was_due, note, f"{note}, {was_due}")


def entry(context: WritingContext, task: Task) -> TaskLine:
    """The entry of any task: with the time until its due date, with the days overdue, or without a date."""
    if task.due_date is None:
        return _line(context, task, "", "", context.gettext("no date"))
    return (late if task.due_date < context.now else upcoming)(context, task, task.due_date)


def lines(context: WritingContext, listed: Iterable[Task], entry: Entry) -> tuple[TaskLine, ...]:
    """The entries of a list. Raises ValueError for a task without a due date."""
    return tuple([entry(context, task, due_of(task)) for task in listed])


def due_of(task: Task) -> datetime:
    """The due date of a task that is listed by it. Raises ValueError if the task has none."""
    if task.due_date is None:
        msg = f"task {task.id} has no due date and cannot be listed by it"
        raise ValueError(msg)
    return task.due_date


def teaser(line: TaskLine) -> str:
    """The title, short enough for the preheader."""
    return clean.isolate(clean.cut(line.title, _TEASER_GRAPHEMES))


def more(context: WritingContext, count: int) -> str:
    """ "and 12 more", or ""."""
    return context.plural("and %(n)s more", "and %(n)s more", count) if count > 0 else ""


class TaskListProps(NamedTuple):
    """The props of a mail with one list of tasks."""

    tasks: tuple[TaskLine, ...]
    more: str
    more_url: str | None


def task_list(context: WritingContext, listed: Listed, lines: tuple[TaskLine, ...]) -> TaskListProps:
    """A list of tasks, and the number of those that are not in it."""
    return TaskListProps(lines, more(context, listed.total - len(lines)), context.app_url)


def _line(context: WritingContext, task: Task, due: str, note: str, when: str) -> TaskLine:
    title = context.shown_title(task, clean.TITLE_GRAPHEMES)
    project = clean.title(task.project, clean.PROJECT_GRAPHEMES) if task.project else None
    return TaskLine(
        title,
        _in_text(title),
        project,
        clean.isolate(project) if project else None,
        context.task_url(task.id),
        due,
        note,
        context.localizer.meta(task.priority, task.status),
        when,
    )


def _in_text(title: str) -> str:
    # Two characters are for the isolates.
    room = LINE_LENGTH - _BULLET - 2
    if len(title) <= room:
        return clean.isolate(title)
    return f"\n{' ' * _BULLET}".join(map(clean.isolate, clean.wrap(title, room)))
