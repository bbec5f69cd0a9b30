"""Which tasks change, which go, and which day a report is for: the rules of docs/maintenance.md as pure functions.

Nothing here reads a clock, a database or a setting. T is the time that a command is for: its occurrence, or its
arrival.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Literal, TypeVar
from zoneinfo import ZoneInfo

from taskbell.contracts import TaskStatus, UpdateTaskStatus

OPEN = (TaskStatus.PENDING, TaskStatus.IN_PROGRESS)

Item = TypeVar("Item")


# --- status updates


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A task gets another status."""

    task_id: int
    old: str | None
    new: str
    completion: Literal["set", "clear", "keep"]
    """What happens to completed_at: entering done sets it, leaving done clears it."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The task already has that status."""

    task_id: int
    status: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The change is refused."""

    task_id: int
    reason: str
    status: str | None = None
    """The task's status; None: there is no such task, or it has no status."""


Decision = StatusChange | Unchanged | Rejected


def decide(command: UpdateTaskStatus, statuses: Mapping[int, str | None]) -> Decision:
    """What a command means for its task.

    If the task already has the wanted status, that is `Unchanged`, whatever status was expected: the command may have
    come without a message_id and taken effect, and is now redelivered.

    Args:
        statuses: the statuses of the tasks that exist, by id.
    """
    if command.task_id not in statuses:
        return Rejected(command.task_id, f"task {command.task_id} does not exist")
    old, new = statuses[command.task_id], command.new_status.value
    if old == new:
        return Unchanged(command.task_id, new)
    if command.expected_status is not None and old != command.expected_status.value:
        reason = f"task {command.task_id} has status {old!r}, not {command.expected_status.value!r}"
        return Rejected(command.task_id, reason, old)
    if new == TaskStatus.DONE:
        return StatusChange(command.task_id, old, new, "set")
    return StatusChange(command.task_id, old, new, "clear" if old == TaskStatus.DONE else "keep")


def settled(decision: Decision, written: Mapping[int, str | None], reasons: Mapping[int, str]) -> Decision:
    """The decision, corrected by what the app's table made of it.

    Args:
        written: the statuses that tasks have now; a trigger may have set another one than wanted.
        reasons: why the table refused changes, by task id.
    """
    if not isinstance(decision, StatusChange):
        return decision
    task = decision.task_id
    if task in reasons:
        return Rejected(task, f"the table of tasks refused it: {reasons[task]}", decision.old)
    now = written.get(task)
    if now is None or now == decision.old:
        return Rejected(task, "a trigger or a rule of the table of tasks discarded the change", decision.old)
    return replace(decision, new=now)


def rounds(items: Iterable[Item], key: Callable[[Item], int]) -> list[list[Item]]:
    """Splits items into rounds, each with at most one item of a key; items of one key keep their order.

    Applying one round after the other has the same effect as applying the items one by one, also if triggers of the
    table change something at each step.
    """
    found: list[list[Item]] = []
    seen: dict[int, int] = {}
    for item in items:
        number = seen.get(key(item), 0)
        seen[key(item)] = number + 1
        if number == len(found):
            found.append([])
        found[number].append(item)
    return found


# --- cleanup

Mode = Literal["archive", "delete"]

PAGE_SIZE = 1_000
"""How many tasks one transaction removes at most."""

FIRST_PAGE = 50
"""The size of a cleanup's first page: we do not know yet how long triggers and foreign keys make a deletion take."""

FAST, SLOW = 0.05, 0.12
"""Seconds: after a page that took longer than SLOW the next one is half as large, after one below FAST twice as large.
So no transaction delays others for long, however slow the app's table is."""

FEW = 100
"""If there are fewer tasks than this, the guard does not apply: a share of so few means nothing."""

NAMED = 20
"""How many held tasks the outcome names at most; it counts all of them."""

REASONS = 5
"""How many different reasons for holding tasks the outcome lists at most."""


@dataclass(frozen=True, slots=True)
class Survey:
    """How many tasks there are, and how many of them a cleanup would take."""

    every: int
    old: int


def cutoff(at: datetime, older_than_days: int) -> datetime:
    """Tasks that were done before this moment are old. A day is 24 hours, counted back from T."""
    return at - timedelta(days=older_than_days)


def refusal(survey: Survey, max_share: Decimal) -> str | None:
    """Why a cleanup needs `force`; None: it does not."""
    if survey.every < FEW or survey.old <= max_share * survey.every:
        return None
    return (
        f"it would take {survey.old} of {survey.every} tasks, more than the share of {max_share} that "
        "CLEANUP_MAX_SHARE allows; if that is intended, send the command again with force"
    )


@dataclass(frozen=True, slots=True)
class Page:
    """The result of one page of a cleanup."""

    cursor: int
    """The last task id that the page covers."""
    removed: int
    held: Mapping[int, str]
    """Tasks that could not be taken, each with the reason."""
    last: bool
    """Whether no task has a higher id."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a cleanup has come."""

    cursor: int = 0
    tasks: int = 0
    """The number of tasks removed so far."""
    held: int = 0
    held_ids: Sequence[int] = ()
    held_reasons: Sequence[str] = ()

    def after(self, page: Page) -> "Progress":
        """The progress after that page."""
        reasons = dict.fromkeys([*self.held_reasons, *page.held.values()])
        return replace(
            self,
            cursor=page.cursor,
            tasks=self.tasks + page.removed,
            held=self.held + len(page.held),
            held_ids=tuple(islice([*self.held_ids, *sorted(page.held)], NAMED)),
            held_reasons=tuple(islice(reasons, REASONS)),
        )


def next_size(size: int, seconds: float) -> int:
    """How many tasks the next page may take, after one of `size` took `seconds`."""
    if seconds > SLOW:
        return max(size // 2, 1)
    return min(size * 2, PAGE_SIZE) if seconds < FAST else size


# --- report


def report_date(wanted: date | None, at: datetime, now: datetime, zone: ZoneInfo) -> date | None:
    """The day that a report is for; None: in that zone, the day has not come yet.

    Args:
        wanted: the day that was asked for; None: the local date of `at`.
        at: the time T.
        now: the present time; days after its local date have not come yet.
    """
    day = wanted or at.astimezone(zone).date()
    return None if day > now.astimezone(zone).date() else day
