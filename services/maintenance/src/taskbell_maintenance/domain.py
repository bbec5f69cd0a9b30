"""Which tasks change, which go, and which day a report is for: the README's sentences as pure functions.

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
    """What becomes of completed_at: entering done sets it, leaving done clears it."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The task has that status already."""

    task_id: int
    status: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The change is refused."""

    task_id: int
    reason: str
    status: str | None = None
    """The task's status, where there is such a task."""


Decision = StatusChange | Unchanged | Rejected


def decide(wish: UpdateTaskStatus, statuses: Mapping[int, str | None]) -> Decision:
    """What a command means for its task.

    A task that has the wanted status already is `Unchanged` whatever status was expected: a command that came without
    an id and comes again, after it took effect, finds its own work.

    Args:
        statuses: of the tasks that exist, by id.
    """
    if wish.task_id not in statuses:
        return Rejected(wish.task_id, f"there is no task {wish.task_id}")
    old, new = statuses[wish.task_id], wish.new_status.value
    if old == new:
        return Unchanged(wish.task_id, new)
    if wish.expected_status is not None and old != wish.expected_status.value:
        reason = f"task {wish.task_id} has status {old!r}, not {wish.expected_status.value!r}"
        return Rejected(wish.task_id, reason, old)
    if new == TaskStatus.DONE:
        return StatusChange(wish.task_id, old, new, "set")
    return StatusChange(wish.task_id, old, new, "clear" if old == TaskStatus.DONE else "keep")


def settled(decision: Decision, written: Mapping[int, str | None], reasons: Mapping[int, str]) -> Decision:
    """The decision as the app's table has taken it.

    Args:
        written: the statuses that tasks have now; a trigger may have chosen another than the wanted one.
        reasons: why the table refused others.
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
    """Splits items into rounds with at most one of each key, which keep every key's order.

    Applied one round after the other they mean what they mean one by one, also where a table's triggers have a say
    in each step.
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
"""No transaction removes more tasks than this."""

FIRST_PAGE = 50
"""What a cleanup begins with: nobody knows yet what triggers and foreign keys a deletion has to pass."""

UNHURRIED, SLOW = 0.05, 0.12
"""Seconds: a page that takes longer than SLOW halves the next one, one below UNHURRIED doubles it. So no transaction
holds anybody up, however slow the app's table is."""

FEW = 100
"""Below this number of tasks the guard is silent: a share of so few says nothing."""

NAMED = 20
"""How many held tasks are named; all are counted."""

REASONS = 5
"""How many different reasons for holding tasks are told."""


@dataclass(frozen=True, slots=True)
class Survey:
    """How many tasks there are, and how many of them a cleanup would take."""

    every: int
    old: int


def cutoff(at: datetime, older_than_days: int) -> datetime:
    """Tasks done before this moment are old: days of 24 hours before T."""
    return at - timedelta(days=older_than_days)


def refusal(survey: Survey, max_share: Decimal) -> str | None:
    """Why a cleanup needs `force`, or None where it does not."""
    if survey.every < FEW or survey.old <= max_share * survey.every:
        return None
    return (
        f"it would take {survey.old} of {survey.every} tasks, more than the share of {max_share} that "
        "CLEANUP_MAX_SHARE allows; send it with force to do it all the same"
    )


@dataclass(frozen=True, slots=True)
class Page:
    """What became of one page of a cleanup."""

    cursor: int
    """The last task id that it has dealt with."""
    removed: int
    held: Mapping[int, str]
    """Tasks that could not go, with the reason."""
    last: bool
    """There are no tasks behind it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a cleanup has come."""

    cursor: int = 0
    tasks: int = 0
    """Removed so far."""
    held: int = 0
    held_ids: Sequence[int] = ()
    held_reasons: Sequence[str] = ()

    def after(self, page: Page) -> "Progress":
        """The progress with that page done."""
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
    """How many tasks the next page may take, when one of `size` took so long."""
    if seconds > SLOW:
        return max(size // 2, 1)
    return min(size * 2, PAGE_SIZE) if seconds < UNHURRIED else size


# --- report


def report_date(wanted: date | None, at: datetime, now: datetime, zone: ZoneInfo) -> date | None:
    """The day that a report is for, or None where it has not come yet in that zone.

    Args:
        wanted: the day that was asked for; None: the local date of `at`, T.
        now: the present moment; the future begins after its local date.
    """
    day = wanted or at.astimezone(zone).date()
    return None if day > now.astimezone(zone).date() else day
