"""Who gets a mail, what it lists, and for which period: the sentences of the README as pure functions.

Nothing here reads a clock, a database or a setting. Moments are aware and in UTC; a recipient's zone is used only for
calendar days. T, named `at`, is the time of a mailing's occurrence and stays the same when the tasks are read again;
`now` is the moment of rendering. `repository/conditions.py` has the same conditions in SQL; a property test checks that
both agree.
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
"""The order of tasks that are due at the same moment; a priority that is not listed comes last."""


def meets(task: Task, condition: Condition, at: datetime) -> bool:
    """True if the task meets the condition at T."""
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


def gets_mail(conditions: tuple[Condition, ...], tasks: Iterable[Task], at: datetime) -> bool:
    """True if one of the tasks, which are assigned to one user, meets one of the conditions at T."""
    return any(meets(task, condition, at) for task in tasks for condition in conditions)


def found(what: AssignedTasks, tasks: Iterable[Task], at: datetime) -> Found | None:
    """The lists and counts of the tasks that are assigned to one user, at T; None if all are empty."""
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
    """The moment in local time of that zone.

    A moment that has no local time there stays in UTC, such as the first moment of year 1 west of Greenwich.
    """
    try:
        return moment.astimezone(zone)
    except OverflowError:
        return moment


def days_overdue(due: datetime, now: datetime, zone: ZoneInfo) -> int:
    """Calendar days in that zone from the due date to now; 0: due today or later."""
    return max(0, (local(now, zone).date() - local(due, zone).date()).days)


def local_week(at: datetime, zone: ZoneInfo) -> date:
    """The Monday of the week that T falls in, in local time of that zone."""
    day = at.astimezone(zone).date()
    return day - timedelta(days=day.weekday())


def calendar_period(kind: Kind, at: datetime, zone: ZoneInfo) -> str:
    """The period of a ledger row, as an ISO date: the local date of T, or the Monday of its week.

    Raises:
        ValueError: the kind's period is neither a day nor a week.
    """
    if kind.period is Period.DAY:
        return at.astimezone(zone).date().isoformat()
    if kind.period is Period.WEEK:
        return local_week(at, zone).isoformat()
    msg = f"{kind.name} mails are not planned by calendar"
    raise ValueError(msg)
