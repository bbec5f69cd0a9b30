"""The daily report and the cleanup, commanded by hand, on the demo's data."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.installation import REPORTS_GO_TO, Installation
from tests.support.waiting import eventually

from taskbell_devstack import demo_data

NOW_SQL = "SELECT now()"
DAY = timedelta(days=1)


@pytest.fixture
async def filled(installation: Installation) -> Installation:
    await demo_data.load(installation.database_url, datetime.now(UTC))
    return installation


async def command(installation: Installation, name: str, body: Any = "{}") -> dict[str, Any]:
    """Publish a command by hand, and return its row once it has ended."""
    before = await installation.value("SELECT count(*) FROM taskbell.command")
    assert await installation.management.publish("taskbell.commands", f"maintenance.{name}", body)

    async def ended() -> list[dict[str, Any]]:
        installation.check_running()
        rows = await installation.rows("SELECT *, result::text AS told FROM taskbell.command ORDER BY finished_at DESC")
        return rows if len(rows) > before else []

    return (await eventually(ended, what=f"the end of {name}"))[0]


async def tasks(installation: Installation) -> list[dict[str, Any]]:
    return await installation.rows("SELECT * FROM tasks ORDER BY id")


async def test_a_report_is_stored_told_and_mailed_once_a_day(filled: Installation) -> None:
    listener = await filled.management.listen("taskbell.events", "report.generated")
    at = datetime.now(UTC)
    rows = demo_data.tasks(at)
    overdue = [it for it in rows if it.status in ("pending", "in_progress") and it.due_date and it.due_date < at]
    completed = [it for it in rows if it.completed_at and at - DAY <= it.completed_at < at]

    assert (await command(filled, "generate_task_report"))["state"] == "done"

    (event,) = await eventually(lambda: filled.management.take(listener), what="the event")
    (mail,) = await filled.inbox.wait_for(1)
    assert event.json()["date"] == at.date().isoformat()
    assert mail.recipient == REPORTS_GO_TO
    assert f"{len(overdue)} overdue" in str(mail.message["subject"])
    assert f"{len(completed)} completed" in str(mail.message["subject"])

    # Again: one row a date, and no second mail.
    assert (await command(filled, "generate_task_report"))["state"] == "done"
    await eventually(lambda: filled.management.take(listener), what="the second event")
    (report,) = await filled.rows("SELECT * FROM taskbell.report")
    assert report["date"] == at.date()

    async def all_mailings_completed() -> bool:
        query = "SELECT bool_and(completed_at IS NOT NULL) AND count(*) = 2 FROM taskbell.mailing"
        return bool(await filled.value(query))

    await eventually(all_mailings_completed, what="the end of the second report's mailing")
    assert len(filled.inbox.mails) == 1


async def test_a_report_of_a_day_to_come_is_rejected(filled: Installation) -> None:
    tomorrow = (datetime.now(UTC) + 2 * DAY).date().isoformat()
    row = await command(filled, "generate_task_report", {"date": tomorrow})
    assert row["state"] == "rejected"
    assert await filled.value("SELECT count(*) FROM taskbell.report") == 0


async def test_a_dry_run_counts_what_the_cleanup_then_archives(filled: Installation) -> None:
    before = await tasks(filled)
    border = datetime.now(UTC) - 30 * DAY
    old = [it for it in before if it["status"] == "done" and it["completed_at"] < border]
    listener = await filled.management.listen("taskbell.events", "tasks.archived")

    dry = await command(filled, "cleanup_completed_tasks", {"dry_run": True})

    assert dry["state"] == "done"
    assert f'"tasks": {len(old)}' in dry["told"]
    assert await tasks(filled) == before
    assert (await filled.management.depth(listener)).ready == 0

    done = await command(filled, "cleanup_completed_tasks")

    assert f'"tasks": {len(old)}' in done["told"]
    assert await tasks(filled) == [it for it in before if it not in old]
    archived = await filled.rows("SELECT row ->> 'title' AS title FROM taskbell.archived_task ORDER BY task_id")
    assert [it["title"] for it in archived] == [it["title"] for it in old]
    (event,) = await eventually(lambda: filled.management.take(listener), what="the event")
    assert (event.json()["tasks"], event.json()["held"], event.json()["mode"]) == (len(old), 0, "archive")


async def test_a_cleanup_of_too_large_a_share_stops_unless_forced(filled: Installation) -> None:
    before = await tasks(filled)
    too_many = {"older_than_days": 0}

    refused = await command(filled, "cleanup_completed_tasks", too_many)
    assert refused["state"] == "rejected"
    assert await tasks(filled) == before

    forced = await command(filled, "cleanup_completed_tasks", {**too_many, "force": True})
    assert forced["state"] == "done"
    assert await tasks(filled) == [it for it in before if it["status"] != "done"]
