"""Migrations, taskbell.enqueue, and when services may begin."""

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from tests.integration.common.database.conftest import connected

from taskbell.contracts import CATALOGUE
from taskbell.database import Database
from taskbell.errors import DatabaseUnavailable
from taskbell.models import OWN, OwnModel
from taskbell.setup import schema
from taskbell.setup.schema import check_schema, create_app_tables, head, migrate


@pytest_asyncio.fixture
async def empty(empty_database_url: str) -> AsyncIterator[Database]:
    database = connected(empty_database_url)
    yield database
    await database.close()


async def set_up(database: Database) -> str | None:
    async with database.transaction() as transaction:
        found = await migrate(transaction.connection)
        await create_app_tables(transaction.connection, "public")
        return found


async def enqueue(database: Database, *arguments: object) -> str:
    places = ", ".join(f"CAST(:a{number} AS {kind})" for number, kind in zip(
        range(len(arguments)), ("text", "jsonb", "text"), strict=False
    ))  # fmt: skip
    async with database.transaction() as transaction:
        return str(
            await transaction.value(
                f"SELECT taskbell.enqueue({places})",
                {f"a{number}": value for number, value in enumerate(arguments)},
            )
        )


async def outbox(database: Database) -> list[tuple[object, ...]]:
    async with database.transaction() as transaction:
        rows = await transaction.rows(
            "SELECT owner, routing_key, body::text, message_id FROM taskbell.outbox ORDER BY id"
        )
        return [(row.owner, row.routing_key, json.loads(row.body), row.message_id) for row in rows]


async def test_from_nothing_to_this_version_and_again_without_a_change(empty: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="schema taskbell is missing: run `taskbell setup`"):
        await check_schema(empty)
    assert await set_up(empty) is None
    await check_schema(empty)
    assert await set_up(empty) == head()
    await check_schema(empty)


async def test_several_at_once_take_turns(empty: Database) -> None:
    found = await asyncio.gather(*(set_up(empty) for _ in range(3)))
    assert sorted(found, key=str) == [head(), head(), None]
    await check_schema(empty)


async def test_migrations_and_models_say_the_same(empty: Database) -> None:
    await set_up(empty)

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == OWN,
                "version_table_schema": OWN,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        return list(compare_metadata(context, OwnModel.metadata))

    async with empty.transaction() as transaction:
        assert await transaction.connection.run_sync(differences) == []


async def test_migrations_and_models_have_the_same_checks(empty: Database) -> None:
    """What alembic does not compare."""
    await set_up(empty)
    expected = {
        f"{table.name}.{constraint.name}"
        for table in OwnModel.metadata.sorted_tables
        for constraint in table.constraints
        if type(constraint).__name__ == "CheckConstraint"
    }
    async with empty.transaction() as transaction:
        rows = await transaction.rows(
            "SELECT c.relname, k.conname FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid"
            " WHERE k.contype = 'c' AND k.connamespace = 'taskbell'::regnamespace"
        )
    assert {f"{row.relname}.{row.conname}" for row in rows} == expected
    assert len(expected) > 5


async def test_the_first_version_is_brought_to_this_one_with_its_rows_and_its_rights(
    empty: Database, empty_database_url: str
) -> None:
    admin = await asyncpg.connect(empty_database_url)
    role = f"{await admin.fetchval('SELECT current_database()')}_reader"
    async with empty.transaction() as transaction:
        await transaction.execute("CREATE SCHEMA taskbell")
        await transaction.connection.run_sync(lambda sync: command.upgrade(schema._alembic(sync), "0001"))
    await admin.execute(f"""
        CREATE ROLE {role};
        GRANT SELECT, INSERT ON taskbell.command TO {role};
        INSERT INTO taskbell.command (message_id, routing_key, state) VALUES ('m1', 'k', 'rejected');
        INSERT INTO taskbell.outbox (owner, routing_key, body, message_id) VALUES ('scheduler', 'k', '{{}}', 'm2');
    """)
    before = await admin.fetchval("SELECT pg_relation_filenode('taskbell.outbox')")
    try:
        assert await set_up(empty) == "0001"
        rights = [
            await admin.fetchval("SELECT has_table_privilege($1, 'taskbell.refused_command', $2)", role, right)
            for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
        ]
        assert rights == [True, True, False, False]
        assert await admin.fetchval("SELECT pg_relation_filenode('taskbell.outbox')") == before, "it was rewritten"
        # What processes of the former version run while they are replaced.
        for table, columns, values in (
            ("command", "routing_key, state, message_id", "'k', 'done', 'm1'"),
            ("outbox", "owner, routing_key, body, message_id", "'scheduler', 'k', '{}', 'm2'"),
        ):
            insert = f"INSERT INTO taskbell.{table} ({columns}) VALUES ({values}) ON CONFLICT (message_id) DO NOTHING"
            assert await admin.execute(insert) == "INSERT 0 0"
    finally:
        await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await admin.close()


async def test_an_older_schema_is_told_with_both_versions(empty: Database) -> None:
    await set_up(empty)
    async with empty.transaction() as transaction:
        await transaction.execute("UPDATE taskbell.alembic_version SET version_num = '0000'")
    with pytest.raises(
        DatabaseUnavailable, match=f"is at version 0000, this version needs {head()}: run `taskbell setup`"
    ):
        await check_schema(empty)


async def test_a_newer_schema_serves_an_older_service(empty: Database) -> None:
    await set_up(empty)
    async with empty.transaction() as transaction:
        await transaction.execute("UPDATE taskbell.alembic_version SET version_num = '9999'")
    await check_schema(empty)
    assert await set_up(empty) == "9999"


async def test_a_server_that_is_read_only_lets_no_service_begin(empty: Database, empty_database_url: str) -> None:
    await set_up(empty)
    admin = await asyncpg.connect(empty_database_url)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await admin.close()
    standby = connected(empty_database_url)
    with pytest.raises(DatabaseUnavailable, match="read-only"):
        await check_schema(standby)
    await standby.close()


async def test_a_user_without_grants_is_told_what_to_do(empty: Database, empty_database_url: str) -> None:
    await set_up(empty)
    admin = await asyncpg.connect(empty_database_url)
    role = f"{await admin.fetchval('SELECT current_database()')}_app"
    await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'pw'")
    try:
        stranger = connected(f"postgresql://{role}:pw@{empty_database_url.rpartition('@')[2]}")
        with pytest.raises(DatabaseUnavailable, match="permission denied for schema taskbell: run `taskbell setup`"):
            await check_schema(stranger)
        await stranger.close()
    finally:
        await admin.execute(f"DROP ROLE {role}")
        await admin.close()


async def test_a_web_app_enqueues_in_its_own_transaction(database: Database) -> None:
    body = {"task_id": 7, "new_status": "done"}
    returned = await enqueue(database, "maintenance.update_task_status", json.dumps(body), "form-1")
    assert returned == "form-1"
    assert await outbox(database) == [("app", "maintenance.update_task_status", body, "form-1")]

    with pytest.raises(ValueError, match="no"):
        await _enqueue_and_fail(database)
    assert len(await outbox(database)) == 1


async def _enqueue_and_fail(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.execute("SELECT taskbell.enqueue('weekly.due')")
        raise ValueError("no")


async def test_body_and_message_id_may_be_left_out(database: Database) -> None:
    first = await enqueue(database, "weekly.due")
    second = await enqueue(database, "weekly.due", "{}", None)
    assert len(first) == len(second) == 36
    assert await outbox(database) == [("app", "weekly.due", {}, first), ("app", "weekly.due", {}, second)]


async def test_the_same_message_id_is_the_same_message(database: Database) -> None:
    for _ in range(3):
        assert await enqueue(database, "weekly.due", "{}", "same") == "same"
    assert len(await outbox(database)) == 1


def test_what_anyone_may_publish_can_be_enqueued_and_nothing_else() -> None:
    known = {key for key, message in CATALOGUE.items() if message.by_anyone}
    assert known == {
        *("reminder.due", "overdue.due", "weekly.due"),
        *("maintenance.generate_task_report", "maintenance.cleanup_completed_tasks", "maintenance.update_task_status"),
        "notifier.send_test_mail",
        "notifier.report_bounce",
    }


@pytest.mark.parametrize("key", sorted(CATALOGUE))
async def test_each_message_is_taken_or_refused_by_its_key(database: Database, key: str) -> None:
    if CATALOGUE[key].by_anyone:
        await enqueue(database, key)
        return
    with pytest.raises(Exception, match=f"unknown routing key '{key}'"):
        await enqueue(database, key)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((None,), "unknown routing key NULL"),
        (("weekly.due'); DROP TABLE taskbell.outbox; --",), "unknown routing key"),
        (("weekly.due", "[]"), "body must be a JSON object"),
        (("weekly.due", "null"), "body must be a JSON object"),
        (("weekly.due", None), "body must be a JSON object"),
        (("weekly.due", "{}", ""), "message_id must have 1 to 255 bytes"),
        (("weekly.due", "{}", "ü" * 128), "message_id must have 1 to 255 bytes"),
        (("weekly.due", json.dumps({"x": "y" * 2 * 1024 * 1024})), "body is larger than 2097152 bytes"),
    ],
)
async def test_what_could_never_be_published_is_refused_at_once(
    database: Database, arguments: tuple[object, ...], words: str
) -> None:
    with pytest.raises(Exception, match=words):
        await enqueue(database, *arguments)
    assert await outbox(database) == []


async def test_only_those_may_enqueue_who_were_given_the_right(database: Database, database_url: str) -> None:
    admin = await asyncpg.connect(database_url)
    role = f"{await admin.fetchval('SELECT current_database()')}_app"
    await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'pw'")
    try:
        app = connected(f"postgresql://{role}:pw@{database_url.rpartition('@')[2]}")
        await admin.execute(f"GRANT USAGE ON SCHEMA taskbell TO {role}")
        with pytest.raises(Exception, match="permission denied for function enqueue"):
            await enqueue(app, "weekly.due")
        await admin.execute(f"GRANT EXECUTE ON FUNCTION taskbell.enqueue TO {role}")
        await enqueue(app, "weekly.due")
        with pytest.raises(Exception, match="permission denied for table outbox"):
            await outbox(app)
        await app.close()
    finally:
        await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await admin.close()


def test_the_version_is_read_from_the_migrations() -> None:
    assert head().isdigit()
    assert schema.head() is head()
