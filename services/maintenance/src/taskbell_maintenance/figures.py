"""Makes the daily report's body: a pure function of what was counted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskbell_maintenance.domain import OPEN

NONE = "(none)"
"""The name under which tasks without a status or a priority are counted."""

PRIORITIES = ("low", "medium", "high", "urgent")
"""The priorities that we know; any other is counted under its own name."""


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """How many messages are in each dead-letter queue."""

    counts: Mapping[str, int] | None
    """None: the numbers are unknown."""
    note: str | None = None
    """Why the numbers are unknown."""


@dataclass(frozen=True, slots=True)
class Counted:
    """All figures that a report is made of."""

    tasks: int
    created: int
    statuses: Sequence[Mapping[str, Any]]
    other_priorities: Sequence[tuple[str | None, int]]
    projects: Sequence[Mapping[str, Any]]
    projects_in_all: int
    names: Mapping[int, str | None]
    """The names of projects, by id."""
    oldest: Sequence[Any]
    mails: Mapping[str, Mapping[str, int]]
    dead_letters: DeadLetters


def other_priorities_exist(statuses: Iterable[Mapping[str, Any]]) -> bool:
    """Whether there are tasks with other priorities than those that we know."""
    return any(row["tasks"] != sum(row[priority] for priority in PRIORITIES) for row in statuses)


def report_body(at: datetime, counted: Counted) -> dict[str, Any]:
    """The report as it is stored.

    Tasks are counted as they are at the time of counting. Overdue means due before T; created and completed mean in
    the 24 h before T. An unknown status or priority is counted under its own name, and counts as neither open nor done.
    """
    rows = counted.statuses
    is_open = [row for row in rows if row["status"] in OPEN]
    body = {
        "tasks": counted.tasks,
        "open": sum(row["tasks"] for row in is_open),
        "overdue": sum(row["past"] for row in is_open),
        "created": counted.created,
        "completed": sum(row["completed"] for row in rows if row["status"] == "done"),
        "by_status": {_name(row["status"]): row["tasks"] for row in rows},
        "by_priority": _by_priority(counted),
        "by_project": [_project(row, counted.names) for row in counted.projects],
        "projects": counted.projects_in_all,
        "oldest_overdue": [_overdue(task, at, counted.names) for task in counted.oldest],
        "mails": {kind: dict(outcomes) for kind, outcomes in counted.mails.items()},
        "dead_letters": None if counted.dead_letters.counts is None else dict(counted.dead_letters.counts),
    }
    if counted.dead_letters.note is not None:
        body["dead_letters_note"] = counted.dead_letters.note
    return body


def _by_priority(counted: Counted) -> dict[str, int]:
    known = {priority: sum(row[priority] for row in counted.statuses) for priority in PRIORITIES}
    found = {priority: tasks for priority, tasks in known.items() if tasks}
    return found | {_name(priority): tasks for priority, tasks in counted.other_priorities}


def _project(row: Mapping[str, Any], names: Mapping[int, str | None]) -> dict[str, Any]:
    number = row["project_id"]
    return {
        "id": number,
        "project": names.get(number),
        "tasks": row["tasks"],
        "open": row["open"],
        "overdue": row["overdue"],
    }


def _overdue(task: Any, at: datetime, names: Mapping[int, str | None]) -> dict[str, Any]:
    return {
        "id": task.id,
        "title": task.title,
        "project": names.get(task.project_id),
        "status": task.status,
        "priority": task.priority,
        "due_date": task.due_date.isoformat(),
        "days": (at - task.due_date).days,
    }


def _name(value: str | None) -> str:
    return NONE if value is None else value
