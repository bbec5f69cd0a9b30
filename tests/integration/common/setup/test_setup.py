"""`taskbell setup` on real servers."""

import asyncio

import asyncpg
import pytest
from tests.support.command import taskbell
from tests.support.databases import database_name
from tests.support.management import Management
from tests.support.proxy import Proxy
from tests.support.roles import as_user
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually

from taskbell.errors import BrokerUnavailable
from taskbell.messaging.topology import topology
from taskbell.settings import load
from taskbell.setup import run
from taskbell.setup.broker import LARGEST, takes
from taskbell.setup.run import SetupSettings, set_up
from taskbell.setup.schema import head

ROLES_LEFT_OUT = (
    "left out: PostgreSQL roles for scheduler, notifier, maintenance, app, operator: "
    "<ROLE>_DATABASE_PASSWORD is not set"
)
USERS_LEFT_OUT = (
    "left out: RabbitMQ users for scheduler, notifier, maintenance, app, operator: <ROLE>_BROKER_PASSWORD is not set"
)
TABLES_LEFT_OUT = (
    "left out: the app's tables projects, tasks, users: --with-app-tables makes them, for a demo, tests or a new app"
)
TOPOLOGY = "RabbitMQ: 6 exchanges, 15 queues, 15 bindings are there"


async def fetch(url: str, sql: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [row[0] for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def tables(url: str, schema: str) -> set[str]:
    return set(await fetch(url, f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'"))


async def test_on_empty_servers_it_makes_everything_and_says_so(empty_database_url: str, empty_vhost: Vhost) -> None:
    done = await taskbell("setup", DATABASE_URL=empty_database_url, BROKER_URL=empty_vhost.url)
    assert done.status == 0, done.err
    assert done.out.splitlines() == [
        f"PostgreSQL: made schema taskbell, version {head()}",
        TOPOLOGY,
        TABLES_LEFT_OUT,
        ROLES_LEFT_OUT,
        USERS_LEFT_OUT,
    ]
    assert done.err == ""
    assert await tables(empty_database_url, "taskbell") >= {"outbox", "command", "delivery", "occurrence"}
    assert await tables(empty_database_url, "public") == set()
    assert await empty_vhost.management.queue_names() == {queue.name for queue in topology().queues}


async def test_again_it_changes_nothing(database_url: str, broker_url: str, management: Management) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO users (id, name) VALUES (1, 'Ada')")
    await connection.execute("SELECT taskbell.enqueue('reminder.due', '{}', 'kept')")
    await connection.close()
    await management.publish("taskbell.events", "weekly.due")

    done = await taskbell("setup", "--with-app-tables", DATABASE_URL=database_url, BROKER_URL=broker_url)

    assert done.status == 0, done.err
    assert done.out.splitlines() == [
        f"PostgreSQL: schema taskbell is there, version {head()}",
        "PostgreSQL: the app's tables projects, tasks, users are there, in schema public",
        TOPOLOGY,
        ROLES_LEFT_OUT,
        USERS_LEFT_OUT,
    ]
    assert await fetch(database_url, "SELECT name FROM users") == ["Ada"]
    assert await fetch(database_url, "SELECT message_id FROM taskbell.outbox") == ["kept"]
    assert (await management.depth("notifier.weekly_due")).ready == 1


async def test_the_apps_tables_are_made_where_they_are_missing_in_the_schema_that_is_named(
    empty_database_url: str, empty_vhost: Vhost
) -> None:
    await fetch(empty_database_url, 'CREATE SCHEMA "The App"')
    await fetch(empty_database_url, 'CREATE TABLE "The App".projects (id bigint PRIMARY KEY, name text, colour text)')
    done = await taskbell(
        "setup",
        "--with-app-tables",
        DATABASE_URL=empty_database_url,
        BROKER_URL=empty_vhost.url,
        APP_SCHEMA="The App",
    )
    assert "PostgreSQL: made the app's tables tasks, users in schema The App" in done.out.splitlines()
    assert await tables(empty_database_url, "The App") == {"projects", "tasks", "users"}
    assert await tables(empty_database_url, "public") == set()


async def test_several_at_once_on_empty_servers_all_succeed(empty_database_url: str, empty_vhost: Vhost) -> None:
    settings = {"DATABASE_URL": empty_database_url, "BROKER_URL": empty_vhost.url}
    all_done = await asyncio.gather(*(taskbell("setup", "--with-app-tables", **settings) for _ in range(3)))
    assert [done.status for done in all_done] == [0, 0, 0], [done.err for done in all_done]
    first_lines = sorted(done.out.splitlines()[0] for done in all_done)
    assert first_lines == [
        f"PostgreSQL: made schema taskbell, version {head()}",
        f"PostgreSQL: schema taskbell is there, version {head()}",
        f"PostgreSQL: schema taskbell is there, version {head()}",
    ]


async def test_a_newer_version_is_left_alone_with_everything_that_it_made(
    database_url: str, empty_vhost: Vhost
) -> None:
    await fetch(database_url, "UPDATE taskbell.alembic_version SET version_num = '9999'")
    await fetch(database_url, "DROP FUNCTION taskbell.enqueue")
    done = await taskbell("setup", DATABASE_URL=database_url, BROKER_URL=empty_vhost.url)
    assert done.status == 0, done.err
    assert done.out.splitlines() == [
        f"PostgreSQL: schema taskbell has version 9999, newer than this Taskbell's {head()}: "
        "nothing was done, because only the newer version's setup may change it"
    ]
    assert await fetch(database_url, "SELECT to_regproc('taskbell.enqueue')::text") == [None]
    assert await empty_vhost.management.queue_names() == set()


@pytest.mark.usefixtures("sole_logins")
async def test_roles_and_users_are_made_where_their_passwords_are_given(database_url: str, vhost: Vhost) -> None:
    given = {"DATABASE_URL": database_url, "BROKER_URL": vhost.url}
    passwords = {"OPERATOR_DATABASE_PASSWORD": "p'w d", "OPERATOR_BROKER_PASSWORD": "p/w d"}
    done = await taskbell("setup", **given, **passwords, BROKER_MANAGEMENT_URL=vhost.management.url)
    assert done.status == 0, done.err
    assert done.out.splitlines()[1:] == [
        "PostgreSQL: the roles taskbell_operator are there, with their grants",
        TOPOLOGY,
        "RabbitMQ: the users taskbell_operator are there, with their permissions",
        TABLES_LEFT_OUT,
        "left out: PostgreSQL roles for scheduler, notifier, maintenance, app: <ROLE>_DATABASE_PASSWORD is not set",
        "left out: RabbitMQ users for scheduler, notifier, maintenance, app: <ROLE>_BROKER_PASSWORD is not set",
    ]
    listed = await taskbell("commands", "list", DATABASE_URL=as_user(database_url, "taskbell_operator", "p'w d"))
    assert (listed.status, listed.err) == (0, "")
    published = await taskbell("publish", "weekly.due", BROKER_URL=as_user(vhost.url, "taskbell_operator", "p/w d"))
    assert (published.status, published.err) == (0, "")


@pytest.mark.usefixtures("sole_logins")
async def test_it_does_not_wait_for_the_apps_transactions_where_nothing_is_to_be_changed(
    database_url: str, broker_url: str
) -> None:
    given = {"DATABASE_URL": database_url, "BROKER_URL": broker_url, "OPERATOR_DATABASE_PASSWORD": "secret"}
    assert (await taskbell("setup", **given)).status == 0
    importer = await asyncpg.connect(database_url)
    try:
        async with importer.transaction():
            await importer.execute("SELECT taskbell.enqueue('weekly.due', '{}', 'm1')")
            again = await taskbell("setup", "--wait", "0", **given)
            assert again.status == 0, again.err
    finally:
        await importer.close()


@pytest.mark.usefixtures("sole_logins")
async def test_policies_of_the_outbox_are_changed_once_no_transaction_uses_it_and_nobody_waits_for_that(
    database_url: str, broker_url: str
) -> None:
    given = {"DATABASE_URL": database_url, "BROKER_URL": broker_url, "MAINTENANCE_DATABASE_PASSWORD": "secret"}
    assert (await taskbell("setup", **given)).status == 0
    policies = "SELECT pg_get_expr(polqual, polrelid) FROM pg_policy ORDER BY polname"
    before = await fetch(database_url, policies)
    assert before == ["(owner = ANY (ARRAY['maintenance'::text, 'app'::text]))"]
    await fetch(database_url, "ALTER POLICY taskbell_maintenance ON taskbell.outbox USING (true)")
    importer = await asyncpg.connect(database_url)
    try:
        async with importer.transaction():
            await importer.execute("SELECT taskbell.enqueue('weekly.due', '{}', 'm1')")
            waiting = await taskbell("setup", "--wait", "0", **given)
            assert waiting.status == 1
            assert "an open transaction uses taskbell.outbox" in waiting.err
            assert await fetch(database_url, "SELECT taskbell.enqueue('weekly.due', '{}', 'm2')") == ["m2"]
    finally:
        await importer.close()
    assert (await taskbell("setup", **given)).status == 0
    assert await fetch(database_url, policies) == before


@pytest.mark.usefixtures("sole_logins")
async def test_columns_that_the_apps_tables_do_not_have_are_named_with_the_remedy(
    database_url: str, broker_url: str
) -> None:
    await fetch(database_url, "ALTER TABLE users DROP COLUMN timezone, DROP COLUMN locale")
    await fetch(database_url, "ALTER TABLE tasks DROP COLUMN completed_at CASCADE")
    given = {"DATABASE_URL": database_url, "BROKER_URL": broker_url}
    done = await taskbell("setup", NOTIFIER_DATABASE_PASSWORD="a", MAINTENANCE_DATABASE_PASSWORD="b", **given)
    assert (done.status, done.err) == (
        2,
        "taskbell: public.tasks has no completed_at; public.users has no locale, timezone: make views that have them, "
        "and name their schema in APP_SCHEMA (docs/app-tables.md)\n",
    )


async def test_users_are_left_out_where_the_management_api_is_not_given(database_url: str, broker_url: str) -> None:
    given = {"DATABASE_URL": database_url, "BROKER_URL": broker_url, "APP_BROKER_PASSWORD": "secret"}
    done = await taskbell("setup", **given)
    assert done.status == 0, done.err
    assert done.out.splitlines()[-2:] == [
        "left out: RabbitMQ users for app: BROKER_MANAGEMENT_URL is not set",
        "left out: RabbitMQ users for scheduler, notifier, maintenance, operator: <ROLE>_BROKER_PASSWORD is not set",
    ]


async def test_a_function_that_was_lost_is_made_again(database_url: str, broker_url: str) -> None:
    await fetch(database_url, "DROP FUNCTION taskbell.enqueue")
    await taskbell("setup", DATABASE_URL=database_url, BROKER_URL=broker_url)
    assert await fetch(database_url, "SELECT taskbell.enqueue('weekly.due', '{}', 'm1')") == ["m1"]


async def test_a_deleted_queue_and_binding_come_back(
    database_url: str, broker_url: str, management: Management
) -> None:
    await management.call("DELETE", "/queues/{vhost}/notifier.weekly_due")
    await taskbell("setup", DATABASE_URL=database_url, BROKER_URL=broker_url)
    assert await management.publish("taskbell.events", "weekly.due")


async def test_a_queue_with_other_arguments_is_named_with_the_remedy(database_url: str, empty_vhost: Vhost) -> None:
    classic = {"durable": True, "arguments": {"x-queue-type": "classic"}}
    await empty_vhost.management.call("PUT", "/queues/{vhost}/notifier.weekly_due", classic)
    done = await taskbell("setup", DATABASE_URL=database_url, BROKER_URL=empty_vhost.url)
    assert done.status == 2
    assert "notifier.weekly_due" in done.err
    assert "run `taskbell setup` again" in done.err
    assert "Traceback" not in done.err


async def test_it_waits_for_servers_to_come_up(
    empty_database_url: str, empty_vhost: Vhost, unused_tcp_port: int
) -> None:
    broker = Proxy(empty_vhost.url, unused_tcp_port)  # nobody listens there before it is entered
    settings = load(SetupSettings, database_url=empty_database_url, broker_url=broker.url)
    waiting: asyncio.Queue[str] = asyncio.Queue()
    setup = asyncio.create_task(set_up(settings, app_tables=False, wait=120, say=waiting.put_nowait))
    assert (await waiting.get()).startswith("waiting: RabbitMQ: ")
    async with broker:
        report = await setup
    assert TOPOLOGY in report.done


async def test_what_it_waits_for_is_said_once(
    database_url: str, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PAUSE", 0.01)
    settings = load(SetupSettings, database_url=database_url, broker_url=f"amqp://127.0.0.1:{unused_tcp_port}/")
    said: list[str] = []
    with pytest.raises(BrokerUnavailable):
        await set_up(settings, app_tables=False, wait=0.5, say=said.append)
    assert len(said) == 1


@pytest.mark.parametrize("away", ["DATABASE_URL", "BROKER_URL"])
async def test_a_server_that_does_not_come_is_given_up_after_the_limit(
    away: str, database_url: str, broker_url: str, unused_tcp_port: int
) -> None:
    settings = {"DATABASE_URL": database_url, "BROKER_URL": broker_url}
    settings[away] = f"{'postgresql' if away == 'DATABASE_URL' else 'amqp'}://u:secret@127.0.0.1:{unused_tcp_port}/x"
    done = await taskbell("setup", "--wait", "0.1", **settings)
    assert done.status == 1
    lines = done.err.splitlines()
    server = "PostgreSQL" if away == "DATABASE_URL" else "RabbitMQ"
    assert lines[0].startswith(f"waiting: {server}: ")
    assert lines[-1].startswith(f"taskbell: {server}: ")
    assert "secret" not in done.err


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "DATABASE_URL is not set: PostgreSQL, postgresql://user:password@host:5432/database"),
        ({"DATABASE_URL": "mysql://x/y"}, "DATABASE_URL: must look like postgresql://"),
        ({"BROKER_URL": "rabbit"}, "BROKER_URL: must look like amqp://"),
        (
            {"BROKER_MANAGEMENT_URL": "http://u:hu/sh@h:1"},
            "BROKER_MANAGEMENT_URL: must look like http://user:password@",
        ),
        ({"BROKER_MANAGEMENT_URL": "http://u:hush@[h"}, "BROKER_MANAGEMENT_URL: must look like http://user:password@"),
        ({"BROKER_MANAGEMENT_URL": "localhost:15672"}, "BROKER_MANAGEMENT_URL: must look like http://user:password@"),
    ],
)
async def test_settings_that_are_missing_or_wrong_are_named(settings: dict[str, str], sentence: str) -> None:
    done = await taskbell("setup", **settings)
    assert done.status == 2
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert "hu" not in done.err, "a part of the password"


async def test_a_database_that_does_not_exist_is_said_with_the_remedy(database_url: str, broker_url: str) -> None:
    done = await taskbell("setup", DATABASE_URL=f"{database_url}_not", BROKER_URL=broker_url)
    assert (done.status, done.err) == (
        2,
        f'taskbell: PostgreSQL: database "{database_name(database_url)}_not" does not exist: '
        "create the database that DATABASE_URL names, for example with createdb\n",
    )


async def test_a_broker_that_takes_messages_that_are_too_large_is_told_and_setup_succeeds(
    empty_database_url: str, empty_vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The broker of the tests is configured as we ship it, so the try is smaller here than what it takes.
    monkeypatch.setattr(run, "LARGEST", 1024 * 1024)
    settings = load(SetupSettings, database_url=empty_database_url, broker_url=empty_vhost.url)
    report = await set_up(settings, app_tables=False, wait=0, say=print)
    (advice,) = report.advice
    assert advice.startswith("RabbitMQ took a message of 2 MiB")
    assert "max_message_size = " in advice
    assert await empty_vhost.management.queue_names() == {queue.name for queue in topology().queues}


async def test_a_broker_of_our_configuration_refuses_five_mebibytes(vhost: Vhost) -> None:
    assert LARGEST == 4 * 1024 * 1024
    assert await takes(vhost.url, LARGEST)
    assert not await takes(vhost.url, LARGEST + 1024 * 1024)


async def test_a_broker_that_cannot_be_tried_is_left_out(
    database_url: str, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LARGEST", 1024 * 1024)
    await vhost.management.call("PUT", "/users/setup-without-write", {"password": "p", "tags": ""})
    rights = {"configure": ".*", "write": r"^(?!taskbell\.dead$)", "read": ".*"}
    try:
        await vhost.management.call("PUT", "/permissions/{vhost}/setup-without-write", rights)
        broker_url = as_user(vhost.url, "setup-without-write", "p")
        settings = load(SetupSettings, database_url=database_url, broker_url=broker_url)
        report = await set_up(settings, app_tables=False, wait=0, say=print)
    finally:
        await vhost.management.call("DELETE", "/users/setup-without-write")
    (line,) = [it for it in report.left_out if "too large" in it]
    assert line.startswith("the test whether RabbitMQ takes messages that are too large: RabbitMQ: ")
    assert "ACCESS_REFUSED" in line
    assert report.advice == ()


async def test_dead_letters_are_counted_with_their_size(database_url: str, vhost: Vhost) -> None:
    for _ in range(2):
        await vhost.management.publish("taskbell.dead", "maintenance.dead", "x" * 2 * 1024 * 1024)

    async def is_counted() -> bool:
        found = await vhost.management.call("GET", "/queues/{vhost}/maintenance.dead")
        return found.get("message_bytes") == 4 * 1024 * 1024

    await eventually(is_counted, what="the size in the management API")
    settings = {"DATABASE_URL": database_url, "BROKER_URL": vhost.url}
    done = await taskbell("setup", **settings)
    why = "the header x-taskbell-reason of each says why; move them back to their queue, or purge the queue"
    told = "advice: RabbitMQ: 2 dead letters in maintenance.dead, {}: " + why
    assert [it for it in done.out.splitlines() if "dead letters" in it] == [
        told.format("of a size that is unknown without BROKER_MANAGEMENT_URL")
    ]
    done = await taskbell("setup", BROKER_MANAGEMENT_URL=vhost.management.url, **settings)
    assert [it for it in done.out.splitlines() if "dead letters" in it] == [told.format("4.0 MiB")]
