"""The tables of the daily report; each is made once and shown in both parts of the mail."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from taskbell_notifier.mail import clean
from taskbell_notifier.mail.context import WritingContext
from taskbell_notifier.mail.figures import ReportFigures
from taskbell_notifier.mail.frame import LINE_LENGTH

PROJECTS_LISTED = 15
_ROWS_LISTED = 30
_NAME_WIDTH = 44
_INDENT = 2
_UNKNOWN = "–"


class TableRow(NamedTuple):
    name: str
    figures: tuple[str, ...]


class Table(NamedTuple):
    """A table of figures; `text_lines` says the same for the text part."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    more: str
    text_lines: tuple[str, ...]


class _Plan(NamedTuple):
    """A table before its numbers are formatted; a number that is not known is None."""

    heading: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, tuple[int | None, ...]]]
    limit: int = _ROWS_LISTED
    in_all: int = 0
    """The number of all rows, if `rows` has only some of them."""


def report_tables(context: WritingContext, figures: ReportFigures) -> Iterable[Table]:
    """The tables that have rows."""
    for plan in (*_of_tasks(context, figures), *_of_taskbell(context, figures)):
        rows = [row for row in plan.rows if any(number is not None for number in row[1])]
        if rows:
            yield _table(context, plan._replace(rows=rows))


def _of_tasks(context: WritingContext, figures: ReportFigures) -> Iterable[_Plan]:
    _, localizer = context.localizer.gettext, context.localizer
    glance = [
        (_("Open"), (figures.open,)),
        (_("Overdue"), (figures.overdue,)),
        (_("Created in the last 24 hours"), (figures.created,)),
        (_("Completed in the last 24 hours"), (figures.completed,)),
    ]
    yield _Plan(_("At a glance"), (_("Tasks"), _("Count")), glance)
    statuses = [(localizer.status(status), (count,)) for status, count in figures.by_status.items()]
    yield _Plan(_("By status"), (_("Status"), _("Tasks")), statuses)
    priorities = [(localizer.priority(priority), (count,)) for priority, count in figures.by_priority.items()]
    yield _Plan(_("By priority"), (_("Priority"), _("Tasks")), priorities)
    projects = [
        (clean.title(name or "", clean.PROJECT_GRAPHEMES) or _("(no project)"), (opened, overdue))
        for name, opened, overdue in figures.by_project
    ]
    columns = (_("Project"), _("Open"), _("Overdue"))
    yield _Plan(_("By project"), columns, projects, PROJECTS_LISTED, figures.projects)


def _of_taskbell(context: WritingContext, figures: ReportFigures) -> Iterable[_Plan]:
    _, localizer = context.localizer.gettext, context.localizer
    mails = [
        (f"{localizer.kind(kind)}: {localizer.outcome(outcome)}", (count,)) for kind, outcome, count in figures.mails
    ]
    yield _Plan(_("Mails of the last 24 hours"), (_("Kind and outcome"), _("Mails")), mails)
    queues = [
        (clean.title(queue, clean.NAME_GRAPHEMES), (count,)) for queue, count in (figures.dead_letters or {}).items()
    ]
    yield _Plan(_("Dead letters"), (_("Queue"), _("Messages")), queues)


def _table(context: WritingContext, plan: _Plan) -> Table:
    number = context.localizer.dates.number
    rows = tuple(
        TableRow(name, tuple([_UNKNOWN if figure is None else number(figure) for figure in figures]))
        for name, figures in plan.rows[: plan.limit]
    )
    left = max(plan.in_all, len(plan.rows)) - len(rows)
    more = context.localizer.plural("and %(n)s more", "and %(n)s more", left) if left else ""
    return Table(plan.heading, plan.columns, rows, more, tuple([_in_text(plan.columns, row) for row in rows]))


def _in_text(columns: tuple[str, ...], row: TableRow) -> str:
    """ "Website: Open: 40, Overdue: 7"; a single figure is written without its column."""
    named = [f"{column}: {figure}" for column, figure in zip(columns[1:], row.figures, strict=True)]
    figures = ", ".join(named) if len(named) > 1 else row.figures[0]
    name = clean.isolate(clean.cut_characters(row.name, _NAME_WIDTH))
    return clean.cut_characters(f"{name}: {figures}", LINE_LENGTH - _INDENT)
