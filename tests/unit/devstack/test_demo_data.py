"""The demo's data hold what they promise, whenever they are made."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from taskbell_devstack import demo_data
from taskbell_devstack.demo_data import INACTIVE, PEOPLE, PROJECTS, QUIET, DemoTask

DAY = timedelta(days=1)
OPEN = {"pending", "in_progress"}
NOW = datetime(2026, 11, 22, 10, 37, 12, tzinfo=UTC)


@pytest.fixture(params=[NOW, datetime(2027, 3, 28, 0, 59, 59, 999_999, tzinfo=UTC)])
def now(request: pytest.FixtureRequest) -> datetime:
    moment: datetime = request.param
    return moment


@pytest.fixture
def tasks(now: datetime) -> list[DemoTask]:
    return demo_data.tasks(now)


def assignees(tasks: list[DemoTask]) -> set[int | None]:
    return {task.assignee_id for task in tasks}


def test_there_are_twelve_people_in_six_zones_with_four_languages_and_three_teams(tasks: list[DemoTask]) -> None:
    assert len({person.email for person in PEOPLE}) == 12
    assert len({ZoneInfo(person.timezone) for person in PEOPLE}) == 6
    assert {person.locale for person in PEOPLE} == {"en", "de", "fr", "es"}
    assert [person.id for person in PEOPLE if not person.is_active] == [INACTIVE]
    assert {task.project_id for task in tasks} == set(PROJECTS)
    assert len(PROJECTS) == 3


def test_there_are_two_hundred_tasks_numbered_from_one(tasks: list[DemoTask]) -> None:
    assert [task.id for task in tasks] == list(range(1, 201))
    assert len({task.title for task in tasks}) >= 190


def test_the_same_moment_gives_the_same_tasks(now: datetime) -> None:
    assert demo_data.tasks(now) == demo_data.tasks(now)


def test_another_moment_moves_the_times_and_nothing_else() -> None:
    early, late = demo_data.tasks(NOW), demo_data.tasks(NOW + DAY)
    assert [vars(it)["title"] for it in early] == [vars(it)["title"] for it in late]
    assert [(it.status, it.priority, it.assignee_id, it.project_id) for it in early] == [
        (it.status, it.priority, it.assignee_id, it.project_id) for it in late
    ]
    assert {(a.due_date - b.due_date) for a, b in zip(late, early, strict=True) if a.due_date and b.due_date} == {DAY}


def test_trying_titles_reach_people_who_get_mail(tasks: list[DemoTask], now: datetime) -> None:
    mailed = {person.id for person in PEOPLE} - {INACTIVE, QUIET}
    for edges in ((now - 30 * DAY, now), (now, now + DAY)):
        titles = [
            it.title
            for it in tasks
            if it.status in OPEN and it.assignee_id in mailed and it.due_date and edges[0] <= it.due_date < edges[1]
        ]
        assert any(len(title) == 200 for title in titles)
        assert any("<script>" in title for title in titles)
        assert any("🎉" in title for title in titles)
        assert any("\u0600" <= letter <= "\u06ff" for title in titles for letter in title)


def test_every_border_that_a_mailing_draws_is_more_than_an_hour_away(tasks: list[DemoTask], now: datetime) -> None:
    for task in tasks:
        for moment in (task.due_date, task.completed_at):
            for border in (now, now + DAY, now - 7 * DAY, now - 30 * DAY):
                assert moment is None or abs(moment - border) > timedelta(hours=1), task


def test_somebody_is_inactive_and_somebody_has_nothing_to_be_told(tasks: list[DemoTask], now: datetime) -> None:
    assert {it.status for it in tasks if it.assignee_id == INACTIVE} & OPEN
    of_quiet = [it for it in tasks if it.assignee_id == QUIET]
    assert of_quiet
    assert not [it for it in of_quiet if it.status in OPEN]
    assert not [it for it in of_quiet if it.completed_at and it.completed_at >= now - 7 * DAY]


def test_not_everybody_gets_every_mail(tasks: list[DemoTask], now: datetime) -> None:
    active = {person.id for person in PEOPLE if person.is_active}
    opened = [it for it in tasks if it.status in OPEN and it.assignee_id in active]
    overdue = assignees([it for it in opened if it.due_date and it.due_date < now])
    reminded = assignees([it for it in opened if it.due_date and now <= it.due_date < now + DAY])
    assert overdue == {1, 2, 3, 4, 5, 6, 7, 8}
    assert reminded == {1, 2, 3, 4, 5, 6, 9}
    assert assignees(opened) == {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}


def test_a_cleanup_finds_old_tasks_but_far_from_a_fifth(tasks: list[DemoTask], now: datetime) -> None:
    old = [it for it in tasks if it.status == "done" and it.completed_at and it.completed_at < now - 30 * DAY]
    assert len(old) == 18
    assert len(old) < 0.2 * len(tasks)


def test_some_tasks_are_nobodys_and_some_have_no_date(tasks: list[DemoTask]) -> None:
    assert len([it for it in tasks if it.assignee_id is None and it.status in OPEN]) == 6
    assert len([it for it in tasks if it.due_date is None and it.status in OPEN]) == 10


def test_times_tell_a_story_that_can_be(tasks: list[DemoTask], now: datetime) -> None:
    for task in tasks:
        assert task.created_at < now
        assert task.created_at <= task.updated_at <= now
        assert (task.completed_at is not None) == (task.status == "done")
        assert task.completed_at is None or task.created_at < task.completed_at < now
    assert Counter(it.priority for it in tasks).keys() == {"low", "medium", "high", "urgent"}
