"""Each service under its own role and user, and people under theirs: what they may do is enough for what they do."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from tests.support.command import Done, taskbell
from tests.support.inbox import Inbox
from tests.support.installation import Installation
from tests.support.look_alikes import plant
from tests.support.roles import SERVICES, Roles, all_roles
from tests.support.servers import ServerUrls
from tests.support.waiting import eventually

DAY = timedelta(days=1)
# The last is an event that no person may publish by hand, but a schedule may.
SCHEDULED = (
    "reminder.due",
    "overdue.due",
    "weekly.due",
    "maintenance.generate_task_report",
    "maintenance.cleanup_completed_tasks",
    "report.generated",
)
PAYLOADS = {"report.generated": '{date = "2000-01-01", as_of = "2000-01-01T00:00:00Z"}'}


def schedules() -> str:
    """One schedule a message, each with an occurrence once a minute."""
    return "".join(
        f"""
[[schedule]]
name = "{key.split(".")[-1].replace("_", "-")}{number}"
cron = "* * * * *"
timezone = "UTC"
publish = "{key}"
payload = {PAYLOADS.get(key, "{}")}
catch_up = "1h"
description = "{key}, very eagerly"
"""
        for number, key in enumerate(SCHEDULED)
    )


@pytest_asyncio.fixture(scope="module")
async def roles(servers: ServerUrls) -> AsyncIterator[Roles]:
    """All roles, in a database where everything that our SQL names has a look-alike in the app's schema."""
    async with all_roles(servers) as roles:
        await plant(roles.admin_url, ["public"])
        await roles.set_up()
        yield roles


@pytest_asyncio.fixture(scope="module")
async def installation(roles: Roles, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """An installation in which all services run, with work for each of them."""
    inbox = Inbox()
    await inbox.start()
    installation = Installation(roles.admin_url, roles.vhost, inbox, roles)
    now = datetime.now(UTC)
    await installation.insert("users", [{"id": 1, "name": "Ada", "email": "ada@example.org", "is_active": True}])
    await installation.insert("projects", [{"id": 1, "name": "Engine"}])
    await installation.insert(
        "tasks",
        [
            {"id": 1, "title": "Soon", "assignee_id": 1, "project_id": 1, "due_date": now + DAY / 2},
            {"id": 2, "title": "Late", "assignee_id": 1, "project_id": 1, "due_date": now - DAY},
        ],
    )
    done = {"status": "done", "assignee_id": 1, "completed_at": now - 90 * DAY}
    await installation.insert("tasks", [{"id": 3, "title": "Long done", **done}])
    file = tmp_path_factory.mktemp("schedules") / "schedules.toml"
    file.write_text(schedules())
    await installation.insert(
        "taskbell.schedule_state",
        [
            {"schedule": name, "zone": "UTC", "cron": "* * * * *", "position": now - timedelta(minutes=2)}
            for name in names(file)
        ],
    )
    try:
        await installation.start(SCHEDULES_FILE=str(file))
        yield installation
    finally:
        await installation.stop()
        await inbox.stop()


def names(file: Path) -> list[str]:
    return [line.split('"')[1] for line in file.read_text().splitlines() if line.startswith("name")]


async def as_operator(roles: Roles, *arguments: str) -> Done:
    """A command of the operator's; it must succeed."""
    url = roles.database_url("operator")
    done = await taskbell(*arguments, DATABASE_URL=url, BROKER_URL=roles.broker_url("operator"))
    assert done.status == 0, done.err
    return done


async def test_all_services_are_ready(installation: Installation) -> None:
    for service in SERVICES:
        assert await installation.ask("GET", f"{installation.url(service)}/readyz") == 200


async def test_whatever_is_scheduled_is_published(installation: Installation) -> None:
    async def published() -> bool:
        installation.check_running()
        found = await installation.rows("""
            SELECT DISTINCT routing_key FROM taskbell.outbox WHERE owner = 'scheduler' AND published_at IS NOT NULL
        """)
        return {row["routing_key"] for row in found} == set(SCHEDULED)

    await eventually(published, what="a published message of each schedule")


async def test_the_mailings_and_the_report_are_mailed(installation: Installation) -> None:
    async def sent() -> bool:
        installation.check_running()
        rows = await installation.rows("SELECT DISTINCT kind FROM taskbell.delivery WHERE state = 'sent'")
        return {row["kind"] for row in rows} == {"reminder", "overdue", "weekly", "report"}

    await eventually(sent, what="a mail of each kind")


async def test_old_tasks_are_archived_and_the_operator_brings_them_back(
    installation: Installation, roles: Roles
) -> None:
    async def archived() -> int | None:
        installation.check_running()
        batch: int | None = await installation.value("SELECT batch_id FROM taskbell.archived_task WHERE task_id = 3")
        return batch

    batch = await eventually(archived, what="the archived task")
    await installation.stop("scheduler", "maintenance")  # or the next cleanup takes it again
    await as_operator(roles, "archive", "list")
    await as_operator(roles, "archive", "restore", str(batch))
    assert await installation.value("SELECT title FROM tasks WHERE id = 3") == "Long done"
    await installation.start("maintenance")


async def test_the_app_enqueues_a_command_that_maintenance_relays_and_carries_out(
    installation: Installation, roles: Roles
) -> None:
    connection = await asyncpg.connect(roles.database_url("app"))
    try:
        body = '{"task_id": 1, "new_status": "done"}'
        await connection.execute("SELECT taskbell.enqueue('maintenance.update_task_status', $1, 'by-the-app')", body)
    finally:
        await connection.close()

    async def changed() -> bool:
        installation.check_running()
        return bool(await installation.value("SELECT status FROM tasks WHERE id = 1") == "done")

    await eventually(changed, what="the changed task")
    assert '"done"' in (await as_operator(roles, "commands", "show", "by-the-app", "--json")).out


async def test_the_operator_publishes_a_command_and_hears_its_outcome(installation: Installation, roles: Roles) -> None:
    for command in ('notifier.send_test_mail {"to": "ops@example.org"}', "maintenance.generate_task_report {}"):
        done = await as_operator(roles, "publish", *command.split(" ", 1), "--wait", "30")
        assert "done" in done.out


@pytest.mark.parametrize("service", ["notifier", "maintenance"])
async def test_what_cannot_be_read_becomes_a_dead_letter(installation: Installation, service: str) -> None:
    key = {"notifier": "notifier.send_test_mail", "maintenance": "maintenance.update_task_status"}[service]
    await installation.management.publish("taskbell.commands", key, "no JSON")
    await eventually(lambda: installation.management.take(f"{service}.dead"), what="the dead letter")


@pytest.mark.parametrize(
    "command",
    [
        "mail why --user 1",
        "mail why --address ada@example.org",
        "mail mailings",
        "mail preview overdue --user 1",
        "commands list",
        "schedules pause reminders",
        "schedules resume reminders",
        "schedules status",
        "schedules history reminders",
        "schedules run reminders",
    ],
)
@pytest.mark.usefixtures("installation")
async def test_the_operator_has_what_the_command_line_needs(roles: Roles, command: str) -> None:
    await as_operator(roles, *command.split())
