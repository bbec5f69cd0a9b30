"""What `taskbell setup` grants installed packages, on real servers: nothing unless told to, and no more than they ask.

The package is in the path of the setup process alone, as if it were installed beside it.
"""

import asyncio
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiormq
import asyncpg
import pytest
import pytest_asyncio
from tests.support.command import Done, taskbell
from tests.support.management import Management
from tests.support.packages import TIMESHEETS, Packages, packages_in
from tests.support.roles import NAMES, PASSWORD, allows, as_user, connected, sole_use_of_logins
from tests.support.servers import ServerUrls
from tests.support.vhosts import Vhost

ACME = "acme-timesheets"
WISHES = (
    "taskbell_timesheets may SELECT, INSERT, UPDATE (approved) on timesheets.entry; "
    "taskbell_notifier may SELECT (id, name) on public.teams; "
    "a login taskbell_timesheets, which consumes timesheets.approve, timesheets.task_status_changed and publishes what "
    "anyone may; "
    "anyone may publish timesheets.approve; "
    "taskbell_timesheets may publish month.closed"
)


@dataclass
class Installation:
    """Servers, the package's tables, and `taskbell setup` with a password for every role."""

    database_url: str
    vhost: Vhost
    packages: Packages
    roles: tuple[str, ...] = (*NAMES, "timesheets")
    more: dict[str, str] = field(default_factory=dict)

    async def set_up(self, *arguments: str, path: str | None = None) -> Done:
        """Runs it; unless a path is given, the packages are installed."""
        done = await taskbell("setup", *arguments, **self.environment(path or self.packages.path))
        assert done.status == 0, done.err
        return done

    def environment(self, path: str) -> dict[str, str]:
        """All that it needs to know, with what is in that PYTHONPATH installed."""
        passwords = {
            f"{name.upper()}_{server}_PASSWORD": PASSWORD for name in self.roles for server in ("DATABASE", "BROKER")
        }
        servers = {
            "DATABASE_URL": self.database_url,
            "BROKER_URL": self.vhost.url,
            "BROKER_MANAGEMENT_URL": self.vhost.management.url,
        }
        return servers | passwords | self.more | {"PYTHONPATH": path}

    async def without_package(self, *arguments: str) -> Done:
        """Runs it as if the package were not installed."""
        paths = self.packages.path.split(":")
        return await self.set_up(*arguments, path=":".join(it for it in paths if it != str(self.packages.folder)))

    async def execute(self, sql: str) -> None:
        async with connected(self.database_url) as connection:
            await connection.execute(sql)

    async def allows(self, role: str, statement: str) -> bool:
        """Whether PostgreSQL lets that role do that."""
        async with connected(as_user(self.database_url, f"taskbell_{role}", PASSWORD)) as connection:
            return await allows(connection, statement)

    async def publishes(self, role: str, exchange: str, key: str) -> bool:
        """Whether RabbitMQ lets that role publish that."""
        connection = await aiormq.connect(as_user(self.vhost.url, f"taskbell_{role}", PASSWORD))
        try:
            channel = await connection.channel()
            await channel.basic_publish(b"{}", exchange=exchange, routing_key=key)
        except aiormq.exceptions.ChannelAccessRefused:
            return False
        finally:
            await connection.close()
        return True

    async def reads(self, role: str, queue: str) -> bool:
        """Whether RabbitMQ lets that role consume from that queue."""
        connection = await aiormq.connect(as_user(self.vhost.url, f"taskbell_{role}", PASSWORD))
        try:
            channel = await connection.channel()
            await channel.basic_get(queue)
        except aiormq.exceptions.ChannelAccessRefused:
            return False
        finally:
            await connection.close()
        return True


@pytest_asyncio.fixture
async def installation(
    servers: ServerUrls, database_url: str, vhost: Vhost, tmp_path: Path
) -> AsyncIterator[Installation]:
    """With the package's tables. What is a server's own, its role and user, is gone at the end."""
    with packages_in(tmp_path / "site") as packages:
        packages.install(ACME, TIMESHEETS)
        async with sole_use_of_logins(servers):
            installation = Installation(database_url, vhost, packages)
            await installation.execute("""
                CREATE TABLE public.teams (id bigint, name text, secret text);
                CREATE SCHEMA timesheets;
                CREATE TABLE timesheets.entry (id bigint, hours int, approved boolean);
                INSERT INTO timesheets.entry VALUES (1, 8, false)
            """)
            try:
                yield installation
            finally:
                await drop(installation)


async def drop(installation: Installation) -> None:
    await installation.vhost.management.call("DELETE", "/users/taskbell_timesheets") if await user(
        installation.vhost.management
    ) else None
    async with connected(installation.database_url) as connection:
        if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = 'taskbell_timesheets'"):
            await connection.execute("DROP OWNED BY taskbell_timesheets; DROP ROLE taskbell_timesheets")


async def user(management: Management) -> Mapping[str, object] | None:
    """The broker's user of the package."""
    found = [it for it in await management.call("GET", "/users") if it["name"] == "taskbell_timesheets"]
    return found[0] if found else None


async def role_exists(installation: Installation) -> bool:
    async with connected(installation.database_url) as connection:
        return bool(await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = 'taskbell_timesheets'"))


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


async def test_removed_it_loses_its_rights_and_what_is_left_over_is_named(installation: Installation) -> None:
    await installation.set_up("--grant", ACME)
    management = installation.vhost.management
    for _ in range(3):
        await management.publish("taskbell.commands", "timesheets.approve", {"entry_id": 1})
    theirs = await management.listen("taskbell.events", "task.status_changed")

    done = await installation.without_package()

    told = done.out.splitlines()
    assert (
        "PostgreSQL: took USAGE on schema timesheets, INSERT, SELECT, UPDATE (approved) on timesheets.entry from "
        f"taskbell_timesheets: package {ACME} is not installed"
    ) in told
    assert not await installation.allows("notifier", "SELECT id FROM teams")
    left_over = [line.removeprefix("left over: ") for line in told if line.startswith("left over: ")]
    remedy = "which neither this version nor an installed package consumes: install its package again, or delete it"
    assert left_over == [
        f"PostgreSQL role taskbell_timesheets of package {ACME}, which is not installed: DROP ROLE taskbell_timesheets "
        "removes it, once it owns nothing",
        f"RabbitMQ user taskbell_timesheets of package {ACME}, which is not installed: `rabbitmqctl delete_user "
        "taskbell_timesheets` removes it",
        f"queue timesheets.approve with 3 messages, {remedy} (`rabbitmqctl delete_queue timesheets.approve`)",
        f"queue timesheets.dead with 0 messages, {remedy} (`rabbitmqctl delete_queue timesheets.dead`)",
        f"queue timesheets.task_status_changed with 0 messages, {remedy} "
        "(`rabbitmqctl delete_queue timesheets.task_status_changed`)",
    ]
    assert theirs in await management.queue_names(), "a queue that somebody else bound is not ours to speak of"


async def test_what_is_named_as_left_over_can_be_removed_as_it_is_said(installation: Installation) -> None:
    await installation.set_up("--grant", ACME)
    await installation.without_package()
    await installation.execute("DROP ROLE taskbell_timesheets")
    management = installation.vhost.management
    await management.call("DELETE", "/users/taskbell_timesheets")
    for queue in ("timesheets.approve", "timesheets.dead", "timesheets.task_status_changed"):
        await management.call("DELETE", f"/queues/{{vhost}}/{queue}")
    done = await installation.without_package()
    assert "left over" not in done.out
    assert "took" not in done.out


async def test_setup_grant_may_go_on_naming_a_package_that_was_removed(installation: Installation) -> None:
    installation.more = {"SETUP_GRANT": ACME}
    done = await installation.without_package()
    assert f"left out: package {ACME}, which is to be granted its rights: it is not installed" in done.out.splitlines()


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


async def test_roles_and_users_that_others_have_named_like_ours_are_left_alone(installation: Installation) -> None:
    management = installation.vhost.management
    await installation.execute("""
        CREATE ROLE taskbell_grafana LOGIN;
        GRANT SELECT ON public.tasks TO taskbell_grafana
    """)
    await management.call("PUT", "/users/taskbell_grafana", {"password": "x", "tags": "monitoring"})
    permissions = {"configure": "^$", "write": "^$", "read": ".*"}
    await management.call("PUT", "/permissions/{vhost}/taskbell_grafana", permissions)
    try:
        done = await installation.set_up()
        assert "grafana" not in done.out
        async with connected(installation.database_url) as connection:
            assert await connection.fetchval("SELECT has_table_privilege('taskbell_grafana', 'public.tasks', 'SELECT')")
        assert await management.call("GET", "/permissions/{vhost}/taskbell_grafana")
    finally:
        await management.call("DELETE", "/users/taskbell_grafana")
        await installation.execute("DROP OWNED BY taskbell_grafana; DROP ROLE taskbell_grafana")


async def test_a_package_does_not_take_over_a_login_of_somebody_else_by_naming_its_service_like_it(
    installation: Installation,
) -> None:
    management = installation.vhost.management
    source = TIMESHEETS.replace('"timesheets"', '"backup"').replace("timesheets.approve", "backup.approve")
    installation.packages.install("acme-backup", source)
    (installation.packages.folder / "acme_timesheets-1.0.dist-info" / "entry_points.txt").unlink()
    await installation.execute("""
        CREATE ROLE taskbell_backup LOGIN PASSWORD 'of their own';
        GRANT SELECT ON public.tasks TO taskbell_backup
    """)
    await management.call("PUT", "/users/taskbell_backup", {"password": "of their own", "tags": "monitoring"})
    installation.more = {"BACKUP_DATABASE_PASSWORD": PASSWORD, "BACKUP_BROKER_PASSWORD": PASSWORD}
    try:
        done = await installation.set_up("--grant", "acme-backup")
        told = done.out.splitlines()
        remedy = "COMMENT ON ROLE taskbell_backup IS 'Made by taskbell setup for package acme-backup'"
        assert (
            "left out: PostgreSQL role taskbell_backup for package acme-backup: there is one that setup has not made. "
            f"If it is the package's, say so: {remedy}"
        ) in told
        assert (
            "left out: RabbitMQ user taskbell_backup for package acme-backup: there is one that setup has not made. If "
            "it is the package's, say so: `rabbitmqctl set_user_tags taskbell_backup package:acme-backup`"
        ) in told
        async with connected(as_user(installation.database_url, "taskbell_backup", "of their own")) as connection:
            assert await allows(connection, "SELECT title FROM public.tasks")
        assert (await management.call("GET", "/users/taskbell_backup"))["tags"] == ["monitoring"]

        await installation.execute(remedy)
        await management.call(
            "PUT", "/users/taskbell_backup", {"password": "of their own", "tags": "package:acme-backup"}
        )
        again = await installation.set_up("--grant", "acme-backup")
        assert "that setup has not made" not in again.out
        assert await installation.allows("backup", "SELECT 1")
    finally:
        await management.call("DELETE", "/users/taskbell_backup")
        await installation.execute("DROP OWNED BY taskbell_backup; DROP ROLE taskbell_backup")


async def test_a_service_without_its_passwords_is_named_like_ours(installation: Installation) -> None:
    installation.roles = NAMES
    done = await installation.set_up("--grant", ACME)
    assert [line for line in done.out.splitlines() if line.startswith("left out: ")][-2:] == [
        "left out: PostgreSQL roles for timesheets: <ROLE>_DATABASE_PASSWORD is not set",
        "left out: RabbitMQ users for timesheets: <ROLE>_BROKER_PASSWORD is not set",
    ]


async def test_a_queue_of_an_earlier_version_of_ours_is_left_over_too(database_url: str, vhost: Vhost) -> None:
    await vhost.management.call("PUT", "/queues/{vhost}/notifier.monthly_due", {"durable": True})
    await vhost.management.call("PUT", "/queues/{vhost}/notifier.of_somebody_else", {"durable": True})
    await vhost.management.call(
        "POST", "/bindings/{vhost}/e/taskbell.events/q/notifier.monthly_due", {"routing_key": "monthly.due"}
    )
    await vhost.management.publish("taskbell.events", "monthly.due")
    given = {"DATABASE_URL": database_url, "BROKER_URL": vhost.url}
    done = await taskbell("setup", **given, BROKER_MANAGEMENT_URL=vhost.management.url)
    assert [line for line in done.out.splitlines() if line.startswith("left over")] == [
        "left over: queue notifier.monthly_due with 1 message, which neither this version nor an installed package "
        "consumes: install its package again, or delete it (`rabbitmqctl delete_queue notifier.monthly_due`)"
    ]
    assert "left over" not in (await taskbell("setup", **given)).out, "without the management API nobody can look"


async def test_a_look_for_what_is_left_over_does_not_make_setup_fail(database_url: str, vhost: Vhost) -> None:
    url = as_user(vhost.management.url, "nobody", "nothing")
    done = await taskbell("setup", DATABASE_URL=database_url, BROKER_URL=vhost.url, BROKER_MANAGEMENT_URL=url)
    assert done.status == 0, done.err
    assert "left out: the search for queues that nobody needs any more: RabbitMQ's management API refused" in done.out
