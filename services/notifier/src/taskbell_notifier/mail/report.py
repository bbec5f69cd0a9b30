"""The mail to operators that shows the figures of a day."""

from typing import NamedTuple

from taskbell.contracts import MailKind
from taskbell_notifier.mail import tasks
from taskbell_notifier.mail.figures import ReportFigures, read_report
from taskbell_notifier.mail.frame import Frame, Scene, frame
from taskbell_notifier.mail.report_tables import Table, report_tables
from taskbell_notifier.mail.tasks import TaskLine

__all__ = ["ReportFigures", "ReportMail", "read_report", "report_mail"]

OLDEST_LISTED = 5


class ReportMail(NamedTuple):
    """The daily report."""

    frame: Frame
    tables: tuple[Table, ...]
    oldest: tuple[TaskLine, ...]


def report_mail(at: Scene, figures: ReportFigures) -> ReportMail:
    """The figures of a day, for operators."""
    _, voice = at.voice.gettext, at.voice
    as_of = figures.as_of.astimezone(at.recipient.zone)
    day = voice.dates.short_day(figures.date)
    summary = ", ".join(_summary(at, figures))
    values = {"date": day, "summary": summary}
    return ReportMail(
        frame=frame(
            at,
            MailKind.REPORT,
            subject=(_("Daily report, %(date)s: %(summary)s") if summary else _("Daily report, %(date)s")) % values,
            heading=_("Daily report"),
            lead=_("%(date)s, as of %(time)s.")
            % {
                "date": voice.dates.long_day(figures.date),
                "time": voice.dates.moment(as_of.date(), as_of.hour, as_of.minute, figures.date.year),
            },
            teasers=_summary(at, figures),
        ),
        tables=tuple(report_tables(at, figures)),
        oldest=tuple(
            [tasks.late(at, task, task.due_date) for task in figures.oldest_overdue[:OLDEST_LISTED] if task.due_date]
        ),
    )


def _summary(at: Scene, figures: ReportFigures) -> tuple[str, ...]:
    voice = at.voice
    parts = []
    if figures.open is not None:
        parts.append(voice.plural("%(n)s open task", "%(n)s open tasks", figures.open))
    if figures.overdue is not None:
        parts.append(voice.plural("%(n)s overdue", "%(n)s overdue", figures.overdue))
    if figures.completed is not None:
        parts.append(voice.plural("%(n)s completed", "%(n)s completed", figures.completed))
    return tuple(parts)
