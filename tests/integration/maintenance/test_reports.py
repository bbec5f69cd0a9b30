"""Daily reports: the figures, by hand; one row a date; and what is refused."""

import tracemalloc
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from tests.integration.maintenance.use_cases import DAY, Maintenance, open_maintenance
from tests.support.received import received

from taskbell.contracts import GenerateTaskReport
from taskbell_maintenance.figures import DeadLetters

HOUR = timedelta(hours=1)


async def _body(maintenance: Maintenance) -> dict[str, Any]:
    (row,) = await maintenance.rows("SELECT body FROM taskbell.report")
    body: dict[str, Any] = row["body"]
    return body


async def test_every_figure(maintenance: Maintenance) -> None:
    at = maintenance.now.replace(microsecond=0)
    long_ago = at - 50 * DAY
    await maintenance.execute("INSERT INTO projects (id, name) VALUES (1, 'Alpha'), (2, 'Beta')")
    await maintenance.execute("ALTER TABLE tasks DROP CONSTRAINT tasks_project_id_fkey")

    async def task(status: str, **columns: Any) -> int:
        return await maintenance.task(status=status, **({"created_at": long_ago} | columns))

    late = await task("pending", project_id=1, due_date=at - 3 * DAY - HOUR, title="Late", priority="urgent")
    later = await task("in_progress", project_id=2, due_date=at - HOUR, title="Later", priority="high")
    await task("pending", project_id=1, due_date=at)  # due now is not overdue
    await task("pending", project_id=None, due_date=None, created_at=at - DAY)  # the first moment of those 24 h
    await task("pending", project_id=7, created_at=at)  # after them; of a project that is not there
    await task("done", project_id=1, due_date=at - DAY, completed_at=at - DAY, priority="low")
    await task("done", project_id=1, completed_at=at - HOUR)
    await task("done", project_id=1, completed_at=at)
    await task("done", project_id=1, completed_at=at - DAY - timedelta(seconds=1))
    await task("cancelled", project_id=2, due_date=at - DAY, completed_at=at - HOUR)
    await task("blocked", project_id=2, due_date=at - DAY, created_at=at - HOUR, priority="whenever")
    await maintenance.execute(
        "INSERT INTO taskbell.mailing (message_id, kind, body_digest) VALUES ('m', 'overdue', 'd')"
    )
    for number, (kind, state, ended) in enumerate(
        (
            ("overdue", "sent", at - HOUR),
            ("overdue", "sent", at - DAY),
            ("overdue", "failed", at - HOUR),
            ("weekly", "sent", at - 2 * HOUR),
            ("weekly", "sent", at),
            ("reminder", "expired", at - DAY - HOUR),
        )
    ):
        await maintenance.execute(
            "INSERT INTO taskbell.delivery (mailing_id, kind, recipient, period, state, expires_at, due_at, ended_at)"
            " SELECT id, $1, $2, 'p', $3, now(), now(), $4 FROM taskbell.mailing",
            kind,
            f"user:{number}",
            state,
            ended,
        )
    maintenance.dead_letters.answer = DeadLetters({"notifier.dead": 2, "maintenance.dead": 0})
    outcome = await maintenance.report(occurrence=at)

    assert outcome["state"] == "done"
    assert outcome["result"]["date"] == at.date().isoformat()
    body = await _body(maintenance)
    assert {name: body[name] for name in ("tasks", "open", "overdue", "created", "completed", "projects")} == {
        "tasks": 11,
        "open": 5,
        "overdue": 2,
        "created": 2,
        "completed": 2,
        "projects": 4,
    }
    assert body["by_status"] == {"pending": 4, "in_progress": 1, "done": 4, "cancelled": 1, "blocked": 1}
    assert body["by_priority"] == {"urgent": 1, "high": 1, "low": 1, "medium": 7, "whenever": 1}
    assert body["by_project"] == [
        {"id": 1, "project": "Alpha", "tasks": 6, "open": 2, "overdue": 1},
        {"id": 2, "project": "Beta", "tasks": 3, "open": 1, "overdue": 1},
        {"id": 7, "project": None, "tasks": 1, "open": 1, "overdue": 0},
        {"id": None, "project": None, "tasks": 1, "open": 1, "overdue": 0},
    ]
    assert body["oldest_overdue"] == [
        {
            "id": late,
            "title": "Late",
            "project": "Alpha",
            "status": "pending",
            "priority": "urgent",
            "due_date": (at - 3 * DAY - HOUR).isoformat(),
            "days": 3,
        },
        {
            "id": later,
            "title": "Later",
            "project": "Beta",
            "status": "in_progress",
            "priority": "high",
            "due_date": (at - HOUR).isoformat(),
            "days": 0,
        },
    ]
    assert body["mails"] == {"overdue": {"sent": 2, "failed": 1}, "weekly": {"sent": 1}}
    assert body["dead_letters"] == {"notifier.dead": 2, "maintenance.dead": 0}


async def test_an_app_without_a_single_task_has_a_report(maintenance: Maintenance) -> None:
    assert (await maintenance.report())["state"] == "done"
    body = await _body(maintenance)
    assert body["tasks"] == body["overdue"] == 0
    assert body["by_status"] == body["by_priority"] == body["mails"] == {}
    assert body["by_project"] == body["oldest_overdue"] == []


async def test_tasks_without_status_or_priority_are_counted(maintenance: Maintenance) -> None:
    await maintenance.execute("ALTER TABLE tasks ALTER status DROP NOT NULL, ALTER priority DROP NOT NULL")
    await maintenance.task(status=None, priority=None)
    await maintenance.task(status="", priority="")
    await maintenance.report()
    body = await _body(maintenance)
    assert body["by_status"] == body["by_priority"] == {"(none)": 1, "": 1}


async def test_lists_are_bounded_and_titles_cut(maintenance: Maintenance) -> None:
    await maintenance.execute(
        "INSERT INTO projects (id, name) SELECT i, repeat('n', 1000) FROM generate_series(1, 300) AS i"
    )
    await maintenance.execute(
        "INSERT INTO tasks (title, project_id, due_date) SELECT repeat('t', 1000), i, now() - interval '1 day'"
        " FROM generate_series(1, 300) AS i"
    )
    await maintenance.report()
    body = await _body(maintenance)
    assert (len(body["by_project"]), body["projects"]) == (200, 300)
    assert len(body["oldest_overdue"]) == 10
    assert len(body["oldest_overdue"][0]["title"]) == len(body["by_project"][0]["project"]) == 300
    assert body["overdue"] == 300


@pytest.mark.parametrize("due", ["-infinity", "4000-01-01 BC", "0001-01-01Z"])
async def test_a_due_date_that_no_calendar_of_ours_has_does_not_stop_the_report(
    maintenance: Maintenance, due: str
) -> None:
    await maintenance.execute(f"INSERT INTO tasks (title, due_date) VALUES ('Ancient', '{due}')")
    await maintenance.report()
    (task,) = (await _body(maintenance))["oldest_overdue"]
    assert (task["title"], task["due_date"]) == ("Ancient", "0001-01-02T00:00:00+00:00")


async def test_the_event_goes_out_with_the_stored_row(maintenance: Maintenance) -> None:
    at = maintenance.now.replace(microsecond=0)
    await maintenance.report("m1", occurrence=at)
    assert await maintenance.events("report.generated") == [
        {"date": at.date().isoformat(), "as_of": at.isoformat().replace("+00:00", "Z")}
    ]
    assert await maintenance.value("SELECT correlation_id FROM taskbell.outbox") == "m1"


async def test_a_date_has_one_report_and_again_replaces_it(maintenance: Maintenance) -> None:
    await maintenance.report("m1")
    await maintenance.task()
    await maintenance.report("m2")
    (row,) = await maintenance.rows("SELECT message_id, body FROM taskbell.report")
    assert (row["message_id"], row["body"]["tasks"]) == ("m2", 1)
    assert len(await maintenance.events("report.generated")) == 2


async def test_a_repeated_command_makes_no_second_report(maintenance: Maintenance) -> None:
    first = await maintenance.report("m1")
    await maintenance.task()
    assert await maintenance.report("m1") == first
    assert (await _body(maintenance))["tasks"] == 0
    assert len(await maintenance.events("report.generated")) == 1


@pytest.mark.parametrize(
    ("zone", "occurrence", "day"),
    [
        ("Pacific/Kiritimati", datetime(2026, 3, 1, 10, 0, tzinfo=UTC), date(2026, 3, 2)),  # UTC+14
        ("Pacific/Kiritimati", datetime(2026, 3, 1, 9, 59, tzinfo=UTC), date(2026, 3, 1)),
        ("America/Los_Angeles", datetime(2026, 3, 1, 7, 0, tzinfo=UTC), date(2026, 2, 28)),
        ("UTC", datetime(2026, 3, 1, 0, 0, tzinfo=UTC), date(2026, 3, 1)),
    ],
)
async def test_without_a_date_it_is_for_the_local_date_of_its_occurrence(
    database_url: str, zone: str, occurrence: datetime, day: date
) -> None:
    async with open_maintenance(database_url, zone) as maintenance:
        await maintenance.report(occurrence=occurrence)
        assert await maintenance.rows("SELECT date, as_of FROM taskbell.report") == [{"date": day, "as_of": occurrence}]


async def test_a_past_date_says_of_when_its_figures_are(maintenance: Maintenance) -> None:
    outcome = await maintenance.report(date=date(2026, 1, 5))
    (row,) = await maintenance.rows("SELECT date, as_of FROM taskbell.report")
    assert row["date"] == date(2026, 1, 5)
    assert row["as_of"] >= maintenance.now
    assert outcome["result"]["as_of"] == row["as_of"].isoformat()


async def test_a_day_that_has_not_come_is_rejected(maintenance: Maintenance) -> None:
    tomorrow = (maintenance.now + 2 * DAY).date()
    for body in ({"date": tomorrow}, {"occurrence": maintenance.now + 2 * DAY}):
        outcome = await maintenance.report(**body)
        assert outcome["state"] == "rejected"
        assert outcome["reason"].startswith("the report's date has not come yet: today is ")
        assert outcome["reason"].endswith(" in UTC")
    assert await maintenance.rows("SELECT * FROM taskbell.report") == []
    assert await maintenance.events("report.generated") == []


async def test_unknown_dead_letters_hold_no_report_up(maintenance: Maintenance) -> None:
    maintenance.dead_letters.answer = DeadLetters(None, "RabbitMQ did not answer within 5 s")
    assert (await maintenance.report())["state"] == "done"
    body = await _body(maintenance)
    assert body["dead_letters"] is None
    assert body["dead_letters_note"] == "RabbitMQ did not answer within 5 s"


async def test_a_report_that_came_without_an_id_twice_is_one_row(maintenance: Maintenance) -> None:
    body = GenerateTaskReport()
    await maintenance.reports.generate([received(body, anonymous=True)])
    await maintenance.reports.generate([received(body, anonymous=True, redelivered=True)])
    assert len(await maintenance.rows("SELECT * FROM taskbell.report")) == 1


async def test_huge_statuses_and_priorities_are_cut_where_they_are_read(maintenance: Maintenance) -> None:
    """60 tasks with a status and a priority of 2 MiB each, all different: read whole they would be 240 MiB."""
    await maintenance.execute("""
        INSERT INTO tasks (title, status, priority, due_date, created_at, updated_at)
        SELECT repeat('t', 2097152), 'open ' || repeat('s', 200) || n || repeat('s', 2097152),
            lpad(n::text, 3, '0') || repeat('p', 2097152), now() - interval '1 day', now(), now()
        FROM generate_series(1, 60) AS n
    """)
    await maintenance.execute("""
        INSERT INTO tasks (title, status, priority, due_date, created_at, updated_at)
        SELECT repeat('t', 2097152), 'pending', repeat('p', 2097152), now() - interval '2 days', now(), now()
        FROM generate_series(1, 10) AS n
    """)
    tracemalloc.start()
    try:
        outcome = await maintenance.report()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcome["state"] == "done"
    assert peak < 4 * 1024 * 1024
    body = await _body(maintenance)
    assert body["by_status"] == {"pending": 10, ("open " + "s" * 200)[:100]: 60}, "those that begin alike are one"
    assert body["by_priority"] == {"p" * 100: 10} | {f"{n:03}" + "p" * 97: 1 for n in range(1, 61)}
    assert {len(task["priority"]) for task in body["oldest_overdue"]} == {100}
    assert {len(task["title"]) for task in body["oldest_overdue"]} == {300}
