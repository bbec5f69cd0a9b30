"""The overdue alert: open tasks past their due date."""

from datetime import timedelta

from taskbell.contracts import OverdueDue
from taskbell.kinds import NOW, AssignedTasks, Button, Due, Found, Gettext, Kind, KindWords, MailText, Period, TaskList
from taskbell_notifier.kinds.sample import sample
from taskbell_notifier.mail import tasks
from taskbell_notifier.mail.context import WritingContext

OVERDUE = (Due(None, NOW),)
"""Who gets it."""

WHAT = AssignedTasks(lists={"tasks": TaskList(Due(None, NOW), limit=25)})


def words(_: Gettext) -> KindWords:
    """The names and sentences of this kind."""
    return KindWords(
        title=_("Overdue alerts"),
        reason=_("You get this mail because open tasks assigned to you are past their due date."),
        unsubscribe=_("Unsubscribe from overdue alerts"),
        unsubscribed=_("%(product)s sends you no more overdue alerts. You can close this page."),
    )


def compose(context: WritingContext, content: Found) -> MailText:
    """Lists the tasks, longest overdue first."""
    localizer, listed = context.localizer, content.lists["tasks"]
    lines = tasks.lines(context, listed.tasks, tasks.late)
    first, only = lines[0], listed.total == 1
    counted = localizer.plural("%(n)s overdue task", "%(n)s overdue tasks", listed.total)
    return MailText(
        subject=localizer.gettext("Overdue: %(title)s") % {"title": context.title(listed.tasks[0])}
        if only
        else counted,
        heading=counted,
        lead=localizer.plural(
            "This task is still open. If its date no longer fits, choose another one.",
            "These tasks are still open, longest overdue first. Where a date no longer fits, choose another one.",
            listed.total,
        ),
        teasers=(tasks.teaser(first), first.note, tasks.more(context, listed.total - 1)),
        button=Button(localizer.gettext("Open task"), first.url or context.app_url)
        if only
        else Button(localizer.gettext("Open tasks"), context.app_url),
        props=tasks.task_list(context, listed, lines),
    )


KIND = Kind(
    name="overdue",
    event=OverdueDue,
    who=OVERDUE,
    what=WHAT,
    period=Period.DAY,
    expiry=timedelta(hours=12),
    words=words,
    compose=compose,
    sample=lambda now: sample(WHAT, now),
    unsubscribe=2,
    package="taskbell_notifier.mail",
)
