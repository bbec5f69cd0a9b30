"""The reminder: open tasks due within a day."""

from datetime import timedelta

from taskbell.contracts import ReminderDue
from taskbell.kinds import (
    DAY,
    NOW,
    AssignedTasks,
    Button,
    Due,
    Found,
    Gettext,
    Kind,
    KindWords,
    MailText,
    Period,
    Task,
    TaskList,
)
from taskbell_notifier.domain import local
from taskbell_notifier.kinds.sample import sample
from taskbell_notifier.mail import tasks
from taskbell_notifier.mail.context import WritingContext

REMINDER = (Due(NOW, DAY),)
"""Who gets it."""

WHAT = AssignedTasks(lists={"tasks": TaskList(Due(NOW, DAY), limit=25)})


def words(_: Gettext) -> KindWords:
    """The names and sentences of this kind."""
    return KindWords(
        title=_("Reminders"),
        reason=_("You get this mail because open tasks assigned to you are due within a day."),
        unsubscribe=_("Unsubscribe from reminders"),
        unsubscribed=_("%(product)s sends you no more reminders. You can close this page."),
    )


def compose(context: WritingContext, content: Found) -> MailText:
    """Lists the tasks, soonest due first."""
    localizer, listed = context.localizer, content.lists["tasks"]
    lines = tasks.lines(context, listed.tasks, tasks.upcoming)
    first = lines[0]
    return MailText(
        subject=_subject(context, listed.tasks[0])
        if listed.total == 1
        else localizer.plural(
            "%(n)s task due in the next 24 hours", "%(n)s tasks due in the next 24 hours", listed.total
        ),
        heading=localizer.gettext("Due in the next 24 hours"),
        lead=localizer.plural(
            "One of your tasks falls due soon.", "%(n)s of your tasks fall due soon, the next one first.", listed.total
        ),
        teasers=(tasks.teaser(first), first.when, tasks.more(context, listed.total - 1)),
        button=Button(localizer.gettext("Open my tasks"), context.app_url),
        props=tasks.task_list(context, listed, lines),
    )


def _subject(context: WritingContext, task: Task) -> str:
    due = tasks.due_of(task)
    here = local(due, context.recipient.zone)
    _, dates = context.localizer.gettext, context.localizer.dates
    values = {"title": context.title(task), "time": dates.time(here.hour, here.minute)}
    if here.date() == context.local.date():
        return _("Due today %(time)s: %(title)s") % values
    if here.date() == context.local.date() + timedelta(days=1):
        return _("Due tomorrow %(time)s: %(title)s") % values
    values["date"] = dates.moment(here.date(), here.hour, here.minute, context.local.year)
    if due < context.now:
        return _("Was due %(date)s: %(title)s") % values
    return _("Due %(date)s: %(title)s") % values


KIND = Kind(
    name="reminder",
    event=ReminderDue,
    who=REMINDER,
    what=WHAT,
    period=Period.DAY,
    expiry=timedelta(hours=12),
    words=words,
    compose=compose,
    sample=lambda now: sample(WHAT, now),
    unsubscribe=1,
    package="taskbell_notifier.mail",
)
