"""Reads the stored figures of a daily report, with tolerance.

Another service, perhaps of another version, writes the report's row. Figures that are missing or not understood are
left out; they never keep a report from being sent.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, NamedTuple

from taskbell.kinds import Task

_BIGINT = 2**63 - 1
"""A larger number is not a count of rows."""


class ReportFigures(NamedTuple):
    """A report row, checked."""

    date: date
    as_of: datetime
    open: int | None
    by_status: Mapping[str, int]
    by_priority: Mapping[str, int]
    by_project: tuple[tuple[str | None, int | None, int | None], ...]
    """Name, open and overdue tasks."""
    projects: int
    """Number of all projects, listed or not."""
    overdue: int | None
    created: int | None
    completed: int | None
    oldest_overdue: tuple[Task, ...]
    mails: tuple[tuple[str, str, int], ...]
    """Kind, outcome, count."""
    dead_letters: Mapping[str, int] | None


def read_report(day: date, as_of: datetime, body: Mapping[str, Any]) -> ReportFigures:
    """The figures of a report's row; it raises nothing, whatever `body` contains."""
    dead = body.get("dead_letters")
    projects = tuple(
        (_text(row.get("project")), _count(row.get("open")), _count(row.get("overdue")))
        for row in _rows(body.get("by_project"))
    )
    return ReportFigures(
        date=day,
        as_of=as_of,
        open=_count(body.get("open")),
        by_status=_counts(body.get("by_status")),
        by_priority=_counts(body.get("by_priority")),
        by_project=projects,
        projects=max(len(projects), _count(body.get("projects")) or 0),
        overdue=_count(body.get("overdue")),
        created=_count(body.get("created")),
        completed=_count(body.get("completed")),
        oldest_overdue=tuple(filter(None, map(_task, _rows(body.get("oldest_overdue"))))),
        mails=tuple(
            (kind, outcome, count)
            for kind, outcomes in _mapping(body.get("mails")).items()
            for outcome, count in _counts(outcomes).items()
        ),
        dead_letters=_counts(dead) if isinstance(dead, Mapping) else None,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _rows(value: object) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _BIGINT else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _counts(value: object) -> dict[str, int]:
    return {str(name): count for name, raw in _mapping(value).items() if (count := _count(raw)) is not None}


def _task(row: Mapping[str, Any]) -> Task | None:
    number, title, due = _count(row.get("id")), _text(row.get("title")), _text(row.get("due_date"))
    if number is None or title is None or due is None:
        return None
    try:
        moment = datetime.fromisoformat(due)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return Task(
        id=number,
        title=title,
        project=_text(row.get("project")),
        status=_text(row.get("status")) or "",
        priority=_text(row.get("priority")),
        due_date=moment,
        completed_at=None,
    )
