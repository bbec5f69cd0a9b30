"""What `taskbell setup` grants installed packages, on real servers: nothing unless told to, and no more than they ask.

The package is in the path of the setup process alone, as if it were installed beside it."""

import asyncio
import os
import pty
import subprocess
import sys

import aiormq
import asyncpg
import pytest
from tests.integration.common.setup.package_installation import ACME, WISHES, Installation, role_exists, user
from tests.support.command import taskbell
from tests.support.packages import TIMESHEETS
from tests.support.roles import NAMES, connected


def on_a_terminal(installation: Installation, answer: str) -> tuple[int, str]:
    """Runs it with a terminal as its input and output; returns its status and what stood there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from taskbell.cli import main; main()", "setup"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | installation.environment(installation.packages.path),
    )
    os.close(theirs)
    os.write(ours, answer.encode())
    screen = b""
    try:
        while some := os.read(ours, 65536):
            screen += some
    except OSError:
        pass  # Linux says so when the other side is closed
    finally:
        os.close(ours)
    return process.wait(), screen.decode().replace("\r\n", "\n")


async def test_off_a_terminal_a_package_gets_nothing_but_its_queues(installation: Installation) -> None:
    done = await installation.set_up()
    sentence = (
        f"left out: package {ACME} 1.0, which asks that {WISHES}: `taskbell setup --grant {ACME}` or "
        f"SETUP_GRANT={ACME} grants it"
    )
    assert sentence in done.out.splitlines()
    assert not await role_exists(installation)
    assert await user(installation.vhost.management) is None
    assert not await installation.allows("notifier", "SELECT id FROM teams")
    for role in ("scheduler", "maintenance", "app", "operator"):
        assert not await installation.publishes(role, "taskbell.commands", "timesheets.approve")
    names = await installation.vhost.management.queue_names()
    assert {"timesheets.approve", "timesheets.task_status_changed", "timesheets.dead"} <= names
    async with connected(installation.database_url) as connection:
        with pytest.raises(asyncpg.InvalidParameterValueError, match=r"unknown routing key 'timesheets\.approve'"):
            await connection.execute("SELECT taskbell.enqueue('timesheets.approve', '{\"entry_id\": 1}')")


@pytest.mark.parametrize(("answer", "granted"), [("y\n", True), ("\n", False)])
async def test_on_a_terminal_it_asks_for_each_package_and_no_is_the_default(
    installation: Installation, answer: str, granted: bool
) -> None:
    installation.packages.install("acme-nothing", "from taskbell.extend import Extension\nextension = Extension()")
    status, screen = await asyncio.to_thread(on_a_terminal, installation, answer)
    assert status == 0, screen
    lines = screen.splitlines()
    start = lines.index(f"Package {ACME} 1.0 asks that")
    assert lines[start + 1 : start + 6] == [f"  {wish}" for wish in WISHES.split("; ")]
    assert lines[start + 6].startswith("Grant it? [y/N]: ")
    assert "acme-nothing" not in screen, "who asks for nothing is not asked about"
    assert await installation.allows("notifier", "SELECT id FROM teams") == granted
    assert (await user(installation.vhost.management) is not None) == granted


@pytest.mark.parametrize("how", ["--grant", "SETUP_GRANT"])
async def test_granted_it_gets_what_it_asks_for_and_no_more(installation: Installation, how: str) -> None:
    if how == "--grant":
        done = await installation.set_up("--grant", "Acme_Timesheets")
    else:
        installation.more = {"SETUP_GRANT": f" , {ACME}"}
        done = await installation.set_up()
    assert f"package {ACME} 1.0 is granted: {WISHES}" in done.out.splitlines()
    assert "left out: package" not in done.out

    allowed = [
        ("timesheets", "SELECT hours FROM timesheets.entry"),
        ("timesheets", "INSERT INTO timesheets.entry VALUES (2, 8, false)"),
        ("timesheets", "UPDATE timesheets.entry SET approved = true"),
        ("notifier", "SELECT id, name FROM teams"),
        ("app", "SELECT taskbell.enqueue('timesheets.approve', '{\"entry_id\": 1}')"),
    ]
    assert [it for it in allowed if not await installation.allows(*it)] == []
    denied = [
        ("timesheets", "UPDATE timesheets.entry SET hours = 9"),
        ("timesheets", "DELETE FROM timesheets.entry"),
        ("timesheets", "SELECT name FROM teams"),
        ("timesheets", "SELECT title FROM tasks"),
        ("timesheets", "SELECT FROM taskbell.outbox"),
        ("timesheets", "SELECT FROM taskbell.alembic_version"),
        ("timesheets", "SELECT taskbell.enqueue('weekly.due')"),
        ("timesheets", "CREATE TABLE timesheets.more ()"),
        ("notifier", "SELECT secret FROM teams"),
        ("notifier", "UPDATE teams SET name = 'x'"),
        ("notifier", "SELECT hours FROM timesheets.entry"),
        ("maintenance", "SELECT id FROM teams"),
        ("operator", "SELECT id FROM teams"),
    ]
    assert [it for it in denied if await installation.allows(*it)] == []


async def test_granted_its_messages_are_published_by_whom_it_says_and_consumed_by_its_service(
    installation: Installation,
) -> None:
    await installation.set_up("--grant", ACME)
    may_publish = {
        ("taskbell.commands", "timesheets.approve"): {"scheduler", "maintenance", "app", "operator", "timesheets"},
        ("taskbell.events", "month.closed"): {"scheduler", "timesheets"},
        # A service of a package publishes what anyone may, as the web app does, and nothing else of ours.
        ("taskbell.commands", "maintenance.update_task_status"): set(installation.roles) - {"notifier"},
        ("taskbell.events", "weekly.due"): set(installation.roles) - {"notifier"},
        ("taskbell.events", "task.status_changed"): {"scheduler", "maintenance"},
        ("taskbell.commands", "notifier.send_batch"): {"scheduler", "notifier"},
        ("taskbell.commands", "timesheets.no_such_command"): set(),
    }
    found = {
        message: {role for role in installation.roles if await installation.publishes(role, *message)}
        for message in may_publish
    }
    assert found == may_publish
    reads = {
        queue: {role for role in installation.roles if await installation.reads(role, queue)}
        for queue in ("timesheets.approve", "timesheets.task_status_changed", "timesheets.dead", "notifier.weekly_due")
    }
    assert reads == {
        "timesheets.approve": {"timesheets"},
        "timesheets.task_status_changed": {"timesheets"},
        "timesheets.dead": {"operator"},
        "notifier.weekly_due": {"notifier"},
    }


async def test_granted_no_more_it_loses_its_rights_and_setup_says_so(installation: Installation) -> None:
    await installation.set_up("--grant", ACME)
    again = await installation.set_up("--grant", ACME)
    assert "took" not in again.out

    done = await installation.set_up()
    told = done.out.splitlines()
    assert (
        "PostgreSQL: took SELECT (id, name) on public.teams from taskbell_notifier: neither this version nor a package "
        "that is granted asks for it"
    ) in told
    assert (
        "PostgreSQL: took USAGE on schema timesheets, INSERT, SELECT, UPDATE (approved) on timesheets.entry from "
        f"taskbell_timesheets: package {ACME} is not granted"
    ) in told
    assert f"RabbitMQ: took all permissions from taskbell_timesheets: package {ACME} is not granted" in told
    assert (
        "RabbitMQ: took the right to publish timesheets.approve from taskbell_maintenance, taskbell_app, "
        "taskbell_operator"
    ) in told
    assert "RabbitMQ: took the right to publish month.closed, timesheets.approve from taskbell_scheduler" in told
    assert "left over" not in done.out
    assert not await installation.allows("notifier", "SELECT id FROM teams")
    assert not await installation.allows("timesheets", "SELECT hours FROM timesheets.entry")
    assert not await installation.publishes("app", "taskbell.commands", "timesheets.approve")
    with pytest.raises(aiormq.exceptions.AMQPError):
        await installation.publishes("timesheets", "taskbell.commands", "timesheets.approve")


async def test_a_slip_in_a_package_s_name_is_answered_with_what_is_installed(installation: Installation) -> None:
    done = await taskbell(
        "setup",
        "--grant",
        "acme-timesheet",
        DATABASE_URL=installation.database_url,
        BROKER_URL=installation.vhost.url,
        PYTHONPATH=installation.packages.path,
    )
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "taskbell: package 'acme-timesheet' is not installed, or extends nothing; did you mean 'acme-timesheets'? "
        "Installed: acme-timesheets\n"
    )


async def test_tables_and_columns_that_are_not_there_are_named_and_keep_nothing_else_away(
    installation: Installation,
) -> None:
    await installation.execute("DROP TABLE timesheets.entry; ALTER TABLE public.teams DROP COLUMN name")
    done = await installation.set_up("--grant", ACME)
    left_out = [line for line in done.out.splitlines() if line.startswith("left out: package")]
    assert left_out == [
        f"left out: package {ACME}: SELECT, INSERT, UPDATE (approved) on timesheets.entry for taskbell_timesheets: "
        "the table does not exist. Make it, and run `taskbell setup` again",
        f"left out: package {ACME}: SELECT (id, name) on public.teams for taskbell_notifier: the table has no name. "
        "Add that, and run `taskbell setup` again",
    ]
    assert await installation.allows("notifier", "SELECT id FROM tasks")
    assert await installation.publishes("timesheets", "taskbell.events", "month.closed")

    await installation.execute(
        "CREATE TABLE timesheets.entry (approved boolean); ALTER TABLE public.teams ADD name text"
    )
    done = await installation.set_up("--grant", ACME)
    assert "left out: package" not in done.out
    assert await installation.allows("timesheets", "SELECT approved FROM timesheets.entry")


async def test_names_that_need_quotes_are_quoted(installation: Installation) -> None:
    # Words of SQL's own as a table and a column, and an app schema that nobody writes without quotes.
    grant = 'Grant("notifier", "app.order", ("SELECT (user, group)",))'
    installation.packages.install(
        "acme-words", f"from taskbell.extend import Extension, Grant\nextension = Extension(grants=({grant},))"
    )
    await installation.execute(
        'CREATE SCHEMA "The ""App"""; CREATE TABLE "The ""App""".order ("user" int, "group" int, secret int)'
    )
    installation.more = {"APP_SCHEMA": 'The "App"'}
    await installation.set_up("--grant", "acme-words")
    assert await installation.allows("notifier", 'SELECT "user", "group" FROM "The ""App""".order')
    assert not await installation.allows("notifier", 'SELECT secret FROM "The ""App""".order')


async def test_not_even_an_app_schema_that_is_ours_lets_a_package_into_it(installation: Installation) -> None:
    grant = 'Grant("timesheets", "app.outbox", ("SELECT",)), Grant("notifier", "app.teams", ("SELECT",))'
    source = TIMESHEETS.replace('Grant("notifier", "app.teams", ("SELECT (id, name)",)),', grant)
    installation.packages.install("acme-timesheets", source, version="2.0")
    installation.more = {"APP_SCHEMA": "taskbell"}
    done = await installation.set_up("--grant", ACME)
    assert (
        f"left out: package {ACME}: SELECT on taskbell.outbox for taskbell_timesheets: packages get no rights in "
        "schema taskbell, which APP_SCHEMA must not name"
    ) in done.out.splitlines()
    assert not await installation.allows("timesheets", "SELECT FROM taskbell.outbox")


async def test_a_service_without_its_passwords_is_named_like_ours(installation: Installation) -> None:
    installation.roles = NAMES
    done = await installation.set_up("--grant", ACME)
    assert [line for line in done.out.splitlines() if line.startswith("left out: ")][-2:] == [
        "left out: PostgreSQL roles for timesheets: <ROLE>_DATABASE_PASSWORD is not set",
        "left out: RabbitMQ users for timesheets: <ROLE>_BROKER_PASSWORD is not set",
    ]
