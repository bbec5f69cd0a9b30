"""Who is told what, and when: the sentences of the README as pure functions.

Nothing here reads a clock, a database or a setting. Moments are aware and in UTC; a recipient's zone comes in only
where a calendar day matters. T, called `at`, is the time of a mailing's occurrence and stays fixed while the tasks are
read again; `now` is the moment of rendering. `repository/conditions.py` says the same conditions in SQL; a property
test holds the two together.
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from taskbell.kinds import AssignedTasks, Completed, Condition, Due, Found, Kind, Listed, Open, Period, Task

PENDING = "pending"
IN_PROGRESS = "in_progress"
DONE = "done"
OPEN = frozenset({PENDING, IN_PROGRESS})

URGENCY: Mapping[str | None, int] = {"urgent": 0, "high": 1, "medium": 2, "low": 3}
"""Which of two tasks due at the same moment comes first; priorities unknown to us come last."""


def meets(task: Task, condition: Condition, at: datetime) -> bool:
    """Whether the task meets the condition at T."""
    match condition:
        case Open(status):
            return task.status in OPEN if status is None else task.status == status
        case Due(start, end):
            return task.status in OPEN and _within(task.due_date, at, start, end)
        case Completed(start, end):
            return task.status == DONE and _within(task.completed_at, at, start, end)


def _within(moment: datetime | None, at: datetime, start: timedelta | None, end: timedelta | None) -> bool:
    if moment is None:
        return False
    return (start is None or at + start <= moment) and (end is None or moment < at + end)


def has_to_be_told(conditions: tuple[Condition, ...], tasks: Iterable[Task], at: datetime) -> bool:
    """Whether one of the tasks meets one of the conditions at T."""
    return any(meets(task, condition, at) for task in tasks for condition in conditions)


def found(what: AssignedTasks, tasks: Iterable[Task], at: datetime) -> Found | None:
    """What the tasks that are assigned to one person give to say at T; None: nothing."""
    mine = tuple(tasks)
    lists: dict[str, Listed] = {}
    for name, wanted in what.lists.items():
        due = _soonest_first(task for task in mine if meets(task, wanted.condition, at))
        lists[name] = Listed(due[: wanted.limit], max(0, len(due) - wanted.limit))
    counts = {name: sum(meets(task, it, at) for task in mine) for name, it in what.counts.items()}
    if not any(counts.values()) and not any(it.tasks for it in lists.values()):
        return None
    return Found(lists, counts)


def _soonest_first(tasks: Iterable[Task]) -> tuple[Task, ...]:
    dated = [
        (it.due_date, URGENCY.get(it.priority, len(URGENCY)), it.id, it) for it in tasks if it.due_date is not None
    ]
    dated.sort(key=lambda entry: entry[:3])
    return tuple([entry[3] for entry in dated])


def local(moment: datetime, zone: ZoneInfo) -> datetime:
    """The moment by the clocks of that zone; one at the very edge of the calendar stays in UTC.

    The first moment of year 1 has no local time west of Greenwich.
    """
    try:
        return moment.astimezone(zone)
    except OverflowError:
        return moment


def days_overdue(due: datetime, now: datetime, zone: ZoneInfo) -> int:
    """Calendar days in that zone from the due date to now; 0: due earlier today (or not yet)."""
    return max(0, (local(now, zone).date() - local(due, zone).date()).days)


def local_week(at: datetime, zone: ZoneInfo) -> date:
    """The Monday of the week that T falls in, by the calendar of that zone."""
    day = at.astimezone(zone).date()
    return day - timedelta(days=day.weekday())


def calendar_period(kind: Kind, at: datetime, zone: ZoneInfo) -> str:
    """What a ledger row stands for, as an ISO date: the local date of T, or the Monday of its week.

    Raises:
        ValueError: for a kind whose period is not a calendar's; reports and mails by event have periods of their own.
    """
    if kind.period is Period.DAY:
        return at.astimezone(zone).date().isoformat()
    if kind.period is Period.WEEK:
        return local_week(at, zone).isoformat()
    msg = f"{kind.name} mails are not planned by calendar"
    raise ValueError(msg)
