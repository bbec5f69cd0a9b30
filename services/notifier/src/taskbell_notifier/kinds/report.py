"""The daily report to operators."""

from datetime import datetime, timedelta
from typing import NamedTuple

from taskbell.contracts import ReportGenerated
from taskbell.kinds import Addresses, Gettext, Kind, KindWords, MailText, Period, StoredReport
from taskbell_notifier.mail import tasks
from taskbell_notifier.mail.context import WritingContext
from taskbell_notifier.mail.figures import ReportFigures, read_report
from taskbell_notifier.mail.report_tables import Table, report_tables

OLDEST_LISTED = 5

SAMPLE = {
    "by_status": {"pending": 31, "in_progress": 12, "done": 240},
    "by_priority": {"low": 9, "medium": 20, "high": 11, "urgent": 3},
    "overdue": 5,
    "created": 14,
    "completed": 11,
}


class ReportProps(NamedTuple):
    """The props of the templates."""

    tables: tuple[Table, ...]
    oldest: tuple[tasks.TaskLine, ...]


def words(_: Gettext) -> KindWords:
    """The names and sentences of this kind."""
    return KindWords(
        title=_("Daily reports"),
        reason=_("You get this mail because your address is set to receive the daily report."),
    )


def compose(context: WritingContext, content: ReportFigures) -> MailText:
    """Shows the figures of a day."""
    _, localizer = context.localizer.gettext, context.localizer
    as_of = content.as_of.astimezone(context.recipient.zone)
    summary = _summary(context, content)
    values = {"date": localizer.dates.short_day(content.date), "summary": ", ".join(summary)}
    oldest = [it for it in content.oldest_overdue[:OLDEST_LISTED] if it.due_date]
    return MailText(
        subject=(_("Daily report, %(date)s: %(summary)s") if summary else _("Daily report, %(date)s")) % values,
        heading=_("Daily report"),
        lead=_("%(date)s, as of %(time)s.")
        % {
            "date": localizer.dates.long_day(content.date),
            "time": localizer.dates.moment(as_of.date(), as_of.hour, as_of.minute, content.date.year),
        },
        teasers=summary,
        props=ReportProps(tuple(report_tables(context, content)), tasks.lines(context, oldest, tasks.late)),
    )


def _summary(context: WritingContext, content: ReportFigures) -> tuple[str, ...]:
    localizer = context.localizer
    parts = []
    if content.open is not None:
        parts.append(localizer.plural("%(n)s open task", "%(n)s open tasks", content.open))
    if content.overdue is not None:
        parts.append(localizer.plural("%(n)s overdue", "%(n)s overdue", content.overdue))
    if content.completed is not None:
        parts.append(localizer.plural("%(n)s completed", "%(n)s completed", content.completed))
    return tuple(parts)


def _sample(now: datetime) -> ReportFigures:
    return read_report(now.date(), now, SAMPLE)


KIND = Kind(
    name="report",
    event=ReportGenerated,
    who=Addresses(),
    what=StoredReport(),
    period=Period.REPORT,
    expiry=timedelta(hours=4),
    words=words,
    compose=compose,
    sample=_sample,
    unsubscribe=None,
    package="taskbell_notifier.mail",
)
