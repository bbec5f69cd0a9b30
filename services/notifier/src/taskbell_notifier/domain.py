"""Who is told what, and when: the sentences of the README as pure functions.

Nothing here reads a clock, a database or a setting. Moments are aware and in UTC; a recipient's zone comes in only
where a calendar day matters. T, called `at`, is the time of a mailing's occurrence and stays fixed while the tasks are
read again; `now` is the moment of rendering.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from taskbell.contracts import MailKind

MAILINGS = (MailKind.REMINDER, MailKind.OVERDUE, MailKind.WEEKLY)
"""The kinds that go to people and can be unsubscribed from."""

DAY = timedelta(days=1)
WEEK = timedelta(days=7)

EXPIRY: Mapping[MailKind, timedelta] = {
    MailKind.REMINDER: timedelta(hours=12),
    MailKind.OVERDUE: timedelta(hours=12),
    MailKind.WEEKLY: timedelta(hours=48),
    MailKind.REPORT: timedelta(hours=4),
    MailKind.TEST: timedelta(hours=4),
}
"""How long after T a mail is still worth sending."""

PENDING = "pending"
IN_PROGRESS = "in_progress"
DONE = "done"
OPEN = frozenset({PENDING, IN_PROGRESS})

URGENCY: Mapping[str | None, int] = {"urgent": 0, "high": 1, "medium": 2, "low": 3}
"""Which of two tasks due at the same moment comes first; priorities unknown to us come last."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the web app's tables have it; a status or priority that we do not know is neither open nor done."""

    id: int
    title: str
    project: str | None
    status: str
    priority: str | None
    due_date: datetime | None
    completed_at: datetime | None

    @property
    def is_open(self) -> bool:
        return self.status in OPEN


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a mail goes to; `user_id` is None where the address is no user's (reports, test mails)."""

    user_id: int | None
    name: str
    address: str
    zone: ZoneInfo
    locale: str | None = None


@dataclass(frozen=True, slots=True)
class Reminder:
    """Open tasks due within the day after T, soonest first; never empty."""

    tasks: tuple[Task, ...]
    more: int = 0
    """Tasks beyond these that were only counted."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """Open tasks that were due before T, longest overdue first; never empty."""

    tasks: tuple[Task, ...]
    more: int = 0
    """Tasks beyond these that were only counted."""


@dataclass(frozen=True, slots=True)
class Weekly:
    """How a person's week looks at T."""

    pending: int
    in_progress: int
    completed: int
    """Done in the seven days before T."""
    overdue: tuple[Task, ...]
    """Longest overdue first."""
    upcoming: tuple[Task, ...]
    """Due in the seven days from T, soonest first."""
    more_overdue: int = 0
    """Overdue tasks beyond these that were only counted."""
    more_upcoming: int = 0
    """Upcoming tasks beyond these that were only counted."""


Selection = Reminder | Overdue | Weekly


def select_reminder(tasks: Iterable[Task], at: datetime) -> Reminder | None:
    """The open tasks with at <= due_date < at + 1 day; None: nothing to say."""
    found = _open_due(tasks, at, at + DAY)
    return Reminder(found) if found else None


def select_overdue(tasks: Iterable[Task], at: datetime) -> Overdue | None:
    """The open tasks with due_date < at; None: nothing to say."""
    found = _open_due(tasks, None, at)
    return Overdue(found) if found else None


def select_weekly(tasks: Iterable[Task], at: datetime) -> Weekly | None:
    """Counts and lists of a week; None where no task is open and none was completed in [at - 7 days, at)."""
    mine = tuple(tasks)
    pending = sum(task.status == PENDING for task in mine)
    in_progress = sum(task.status == IN_PROGRESS for task in mine)
    completed = sum(completed_between(task, at - WEEK, at) for task in mine)
    if not (pending or in_progress or completed):
        return None
    return Weekly(
        pending=pending,
        in_progress=in_progress,
        completed=completed,
        overdue=_open_due(mine, None, at),
        upcoming=_open_due(mine, at, at + WEEK),
    )


SELECT: Mapping[MailKind, Callable[[Iterable[Task], datetime], Selection | None]] = {
    MailKind.REMINDER: select_reminder,
    MailKind.OVERDUE: select_overdue,
    MailKind.WEEKLY: select_weekly,
}
"""What each mailing has to say to a person, given all tasks assigned to that person."""


def completed_between(task: Task, start: datetime, end: datetime) -> bool:
    """Is the task done, and was it completed in [start, end)?"""
    return task.status == DONE and task.completed_at is not None and start <= task.completed_at < end


def _open_due(tasks: Iterable[Task], start: datetime | None, end: datetime) -> tuple[Task, ...]:
    found = [
        (due, URGENCY.get(task.priority, len(URGENCY)), task.id, task)
        for task in tasks
        if task.status in OPEN and (due := task.due_date) is not None and due < end and (start is None or start <= due)
    ]
    found.sort(key=lambda entry: entry[:3])
    return tuple([entry[3] for entry in found])


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


def period(kind: MailKind, at: datetime, zone: ZoneInfo) -> str:
    """What a ledger row stands for, as an ISO date: the local date of T, for the weekly mail the Monday of its week.

    Raises:
        ValueError: for a kind that is no mailing to people; reports and test mails have periods of their own.
    """
    if kind not in MAILINGS:
        msg = f"{kind} is not planned by calendar"
        raise ValueError(msg)
    day = local_week(at, zone) if kind == MailKind.WEEKLY else at.astimezone(zone).date()
    return day.isoformat()


def expires_at(kind: MailKind, at: datetime, overrides: Mapping[MailKind, timedelta] | None = None) -> datetime:
    """The moment from which a mail of that kind for T is no longer sent."""
    return at + (overrides or {}).get(kind, EXPIRY[kind])
