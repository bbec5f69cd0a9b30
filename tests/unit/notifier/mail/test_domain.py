"""Who is told what: T is Friday, 20 November 2026, 08:00 in Berlin (07:00 UTC)."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from tests.support.kinds import KINDS, OVERDUE, REMINDER, REPORT, TEST, WEEKLY, name
from tests.unit.notifier.mail.samples import BERLIN, FRIDAY_EIGHT, a_task, done_before, due_in

from taskbell.kinds import AssignedTasks, Found, Kind, Task
from taskbell_notifier.domain import calendar_period, days_overdue, found, gets_mail
from taskbell_notifier.kinds.table import expires_at

SECOND = timedelta(seconds=1) / timedelta(hours=1)


def said(kind: Kind, tasks: list[Task]) -> Found | None:
    assert isinstance(kind.what, AssignedTasks)
    return found(kind.what, tasks, FRIDAY_EIGHT)


def ids(content: Found | None, name: str = "tasks") -> list[int]:
    assert content is not None
    return [task.id for task in content.lists[name].tasks]


def test_a_reminder_holds_open_tasks_from_t_to_just_before_a_day_later():
    inside = [due_in(0, 1), due_in(24 - SECOND, 2, status="in_progress")]
    outside = [due_in(-SECOND, 3), due_in(24, 4), a_task(5, due_date=None)]
    assert ids(said(REMINDER, [*outside, *inside])) == [1, 2]


@pytest.mark.parametrize("status", ["done", "cancelled", "blocked", "PENDING", ""])
def test_only_pending_and_in_progress_are_open(status: str):
    assert said(REMINDER, [due_in(1, status=status)]) is None
    assert said(OVERDUE, [due_in(-1, status=status)]) is None
    assert said(WEEKLY, [due_in(1, status=status)]) is None


def test_overdue_is_what_was_due_before_t_longest_first():
    assert ids(said(OVERDUE, [due_in(-1, 1), due_in(-100, 2), due_in(0, 3), due_in(-SECOND, 4)])) == [2, 1, 4]


def test_tasks_due_at_the_same_moment_come_most_urgent_first_then_by_id():
    priorities = ["low", "someday", "urgent", None, "high", "urgent", "medium"]
    tasks = [due_in(1, number, priority=priority) for number, priority in enumerate(priorities, 1)]
    assert ids(said(REMINDER, tasks)) == [3, 6, 5, 7, 1, 2, 4]


def test_nothing_to_say_is_none():
    assert said(REMINDER, []) is None
    assert said(OVERDUE, [due_in(5)]) is None
    assert said(WEEKLY, [done_before(24 * 7 + SECOND), a_task(2, status="cancelled")]) is None


def test_a_week_counts_open_and_lately_completed_tasks_and_lists_by_date():
    week = 24 * 7
    tasks = [
        due_in(-30, 1),
        due_in(0, 2, status="in_progress"),
        due_in(week - SECOND, 3),
        due_in(week, 4),
        a_task(5, due_date=None),
        done_before(week, 6),  # at T - 7 days exactly: in
        done_before(week + SECOND, 7),
        done_before(0, 8),  # at T exactly: belongs to the next week
        done_before(SECOND, 9),
        a_task(10, status="done", completed_at=None),
        a_task(11, status="cancelled", completed_at=FRIDAY_EIGHT - timedelta(hours=1)),
    ]
    week = said(WEEKLY, tasks)
    assert week is not None
    assert week.counts == {"pending": 4, "in_progress": 1, "completed": 2}
    assert (ids(week, "overdue"), ids(week, "upcoming")) == ([1], [2, 3])


def test_a_completed_task_alone_is_worth_a_weekly_mail():
    week = said(WEEKLY, [done_before(5)])
    assert week is not None
    assert week.counts == {"pending": 0, "in_progress": 0, "completed": 1}
    assert (ids(week, "overdue"), ids(week, "upcoming")) == ([], [])


@pytest.mark.parametrize("kind", [REMINDER, OVERDUE, WEEKLY], ids=name)
@pytest.mark.parametrize("hours", [-200, -1, 0, 23, 24, 200])
@pytest.mark.parametrize("status", ["pending", "done", "blocked"])
def test_somebody_is_planned_if_and_only_if_there_is_something_to_say(kind: Kind, hours: float, status: str):
    completed = FRIDAY_EIGHT + timedelta(hours=hours) if status == "done" else None
    tasks = [due_in(hours, status=status, completed_at=completed)]
    assert isinstance(kind.who, tuple)
    assert gets_mail(kind.who, tasks, FRIDAY_EIGHT) == (said(kind, tasks) is not None)


def test_a_list_stops_at_its_limit_and_counts_the_others():
    content = said(OVERDUE, [due_in(-n, n) for n in range(1, 31)])
    assert content is not None
    assert (len(content.lists["tasks"].tasks), content.lists["tasks"].more, content.lists["tasks"].total) == (25, 5, 30)


@pytest.mark.parametrize(
    ("due", "now", "zone", "days"),
    [
        # 23:30 and 00:30 the next morning in Berlin: an hour apart, yet a calendar day
        ("2026-11-19T22:30", "2026-11-19T23:30", "Europe/Berlin", 1),
        # the same two moments lie on one day in UTC
        ("2026-11-19T22:30", "2026-11-19T23:30", "UTC", 0),
        # 23 hours apart on one calendar day in Tokyo
        ("2026-11-19T15:00", "2026-11-20T14:00", "Asia/Tokyo", 0),
        # the 25 hours of the day on which summer time ends
        ("2026-10-24T22:00", "2026-10-25T22:59", "Europe/Berlin", 0),
        ("2026-10-24T22:00", "2026-10-25T23:00", "Europe/Berlin", 1),
        ("2026-10-20T12:00", "2026-11-20T12:00", "UTC", 31),
        # not due yet
        ("2026-11-22T12:00", "2026-11-20T12:00", "UTC", 0),
    ],
)
def test_days_overdue_are_calendar_days_where_the_recipient_is(due: str, now: str, zone: str, days: int):
    moments = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (due, now)]
    assert days_overdue(*moments, ZoneInfo(zone)) == days


@pytest.mark.parametrize(
    ("at", "zone", "day", "week"),
    [
        ("2026-11-20T07:00", "Europe/Berlin", "2026-11-20", "2026-11-16"),
        # Sunday evening in UTC is Monday in Auckland, and still Sunday in Honolulu
        ("2026-11-22T21:00", "Pacific/Auckland", "2026-11-23", "2026-11-23"),
        ("2026-11-22T21:00", "Pacific/Honolulu", "2026-11-22", "2026-11-16"),
        # over the end of a year
        ("2027-01-01T12:00", "UTC", "2027-01-01", "2026-12-28"),
    ],
)
def test_a_period_is_the_local_date_or_the_monday_of_the_local_week(at: str, zone: str, day: str, week: str):
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    assert calendar_period(REMINDER, moment, ZoneInfo(zone)) == day
    assert calendar_period(OVERDUE, moment, ZoneInfo(zone)) == day
    assert calendar_period(WEEKLY, moment, ZoneInfo(zone)) == week


@pytest.mark.parametrize("kind", [REPORT, TEST], ids=name)
def test_reports_and_test_mails_have_no_calendar_period(kind: Kind):
    with pytest.raises(ValueError, match="not planned by calendar"):
        calendar_period(kind, FRIDAY_EIGHT, BERLIN)


def test_mails_expire_after_12_48_or_4_hours_unless_set_otherwise():
    hours = {it.name: (expires_at(it, FRIDAY_EIGHT, {}) - FRIDAY_EIGHT) / timedelta(hours=1) for it in KINDS.values()}
    assert hours == {"reminder": 12, "overdue": 12, "weekly": 48, "report": 4, "test": 4}
    assert expires_at(WEEKLY, FRIDAY_EIGHT, {"weekly": timedelta(hours=1)}) == datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
