"""`taskbell.enqueue(routing_key, body, message_id)`: how any language publishes in its own transaction."""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from tests.support.management import Management
from tests.support.responder import status_updates_answered
from tests.support.waiting import eventually

from taskbell.contracts import CATALOGUE

UPDATE = json.dumps({"task_id": 1, "new_status": "done"})


@pytest_asyncio.fixture
async def connection(module_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(module_database_url)
    try:
        yield connection
        await connection.execute("TRUNCATE taskbell.outbox, taskbell.command, tasks, users")
    finally:
        await connection.close()


async def rows(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
    found = await connection.fetch("SELECT owner, routing_key, body, message_id FROM taskbell.outbox ORDER BY id")
    return [(it["owner"], it["routing_key"], json.loads(it["body"]), it["message_id"]) for it in found]


async def test_a_message_waits_in_the_outbox_of_the_app(connection: asyncpg.Connection) -> None:
    message_id = await connection.fetchval(
        "SELECT taskbell.enqueue('maintenance.update_task_status', $1, 'form-4711')", UPDATE
    )
    assert message_id == "form-4711"
    assert await rows(connection) == [
        ("app", "maintenance.update_task_status", {"task_id": 1, "new_status": "done"}, "form-4711")
    ]


@pytest.mark.parametrize("call", ["'reminder.due'", "'reminder.due', '{}'", "'reminder.due', '{}', NULL"])
async def test_without_a_body_or_an_id_it_is_empty_and_gets_one(connection: asyncpg.Connection, call: str) -> None:
    message_id = await connection.fetchval(f"SELECT taskbell.enqueue({call})")
    assert len(message_id) == 36
    assert await rows(connection) == [("app", "reminder.due", {}, message_id)]


async def test_rolled_back_it_was_never_there(connection: asyncpg.Connection) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("INSERT INTO users (id, name) VALUES (1, 'Ada')")
    await connection.execute("SELECT taskbell.enqueue('reminder.due')")
    await transaction.rollback()
    assert await rows(connection) == []
    assert await connection.fetchval("SELECT count(*) FROM users") == 0


async def test_committed_it_is_published_once_with_its_properties(
    connection: asyncpg.Connection, module_database_url: str, broker_url: str, management: Management
) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO tasks (id, title) VALUES (1, 'one')")
        await connection.execute("SELECT taskbell.enqueue('reminder.due', '{\"user_ids\": [5]}', 'm1')")
        for _ in range(2):  # the same message: a form that was sent twice
            await connection.execute("SELECT taskbell.enqueue('maintenance.update_task_status', $1, 'm2')", UPDATE)
    async with status_updates_answered(module_database_url, broker_url):
        await eventually(lambda: _published(connection, 2))
    (event,) = await management.take("notifier.reminder_due")
    assert event.json() == {"user_ids": [5]}
    assert (event.properties["message_id"], event.properties["type"]) == ("m1", "reminder.due")
    assert await connection.fetchval("SELECT status FROM tasks") == "done"
    assert await connection.fetchval("SELECT array_agg(message_id) FROM taskbell.command") == ["m2"]


async def _published(connection: asyncpg.Connection, count: int) -> bool:
    published = await connection.fetchval("SELECT count(published_at) FROM taskbell.outbox")
    handled = await connection.fetchval("SELECT count(*) FROM taskbell.command")
    return bool(published == count and handled == 1)


async def test_another_message_under_the_same_id_goes_its_own_way(connection: asyncpg.Connection) -> None:
    for user in (1, 2, 2, 1):
        body = json.dumps({"user_ids": [user]})
        assert await connection.fetchval("SELECT taskbell.enqueue('reminder.due', $1, 'm1')", body) == "m1"
    assert [body for _, _, body, _ in await rows(connection)] == [{"user_ids": [1]}, {"user_ids": [2]}]
    ids = await connection.fetch("SELECT coalesce(wire_id, message_id) AS id FROM taskbell.outbox")
    assert [row["id"] for row in ids] == ["m1", "m1"]


async def test_another_command_under_the_id_is_rejected(
    connection: asyncpg.Connection, module_database_url: str, broker_url: str
) -> None:
    await connection.execute("INSERT INTO tasks (id, title) VALUES (1, 'one'), (2, 'two')")
    for body in (UPDATE, UPDATE.replace("1", "2"), UPDATE):
        await connection.execute("SELECT taskbell.enqueue('maintenance.update_task_status', $1, 'm2')", body)

    async def both() -> bool:
        return bool(await connection.fetchval("SELECT count(*) = 2 FROM taskbell.command"))

    async with status_updates_answered(module_database_url, broker_url):
        await eventually(both)
    found = await connection.fetch("SELECT state, reason FROM taskbell.command ORDER BY state")
    assert [tuple(row) for row in found] == [("done", None), ("rejected", "this message_id was another message's")]
    assert await connection.fetch("SELECT id FROM tasks WHERE status = 'done'") == [(1,)]


@pytest.mark.parametrize("key", sorted(CATALOGUE))
async def test_only_what_anybody_may_publish_can_be_enqueued(connection: asyncpg.Connection, key: str) -> None:
    if CATALOGUE[key].by_anyone:
        await connection.execute("SELECT taskbell.enqueue($1)", key)
        assert len(await rows(connection)) == 1
    else:
        with pytest.raises(asyncpg.InvalidParameterValueError, match=f"unknown routing key '{key}'"):
            await connection.execute("SELECT taskbell.enqueue($1)", key)


@pytest.mark.parametrize("key", ["'reminder'", "'Reminder.due'", "''", "NULL", "'taskbell.commands'"])
async def test_an_unknown_key_is_refused_with_those_that_there_are(connection: asyncpg.Connection, key: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match=f"unknown routing key {key}") as caught:
        await connection.execute(f"SELECT taskbell.enqueue({key})")
    assert "'maintenance.update_task_status'" in caught.value.hint
    assert await rows(connection) == []


@pytest.mark.parametrize("body", ["[]", "1", '"text"', "null", None])
async def test_a_body_that_is_no_object_is_refused(connection: asyncpg.Connection, body: str | None) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="body must be a JSON object"):
        await connection.execute("SELECT taskbell.enqueue('reminder.due', $1)", body)
    assert await rows(connection) == []


@pytest.mark.parametrize("message_id", ["", "x" * 256, "é" * 128])
async def test_an_id_that_amqp_cannot_carry_is_refused(connection: asyncpg.Connection, message_id: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="1 to 255 bytes"):
        await connection.execute("SELECT taskbell.enqueue('reminder.due', '{}', $1)", message_id)
    assert await rows(connection) == []


async def test_it_is_all_that_a_web_apps_role_needs(connection: asyncpg.Connection) -> None:
    role = f"app_{await connection.fetchval('SELECT current_database()')}"
    await connection.execute(f'CREATE ROLE "{role}"')
    try:
        await connection.execute(f'GRANT USAGE ON SCHEMA taskbell TO "{role}"')
        await connection.execute(f'SET ROLE "{role}"')
        with pytest.raises(asyncpg.InsufficientPrivilegeError):  # nobody may who was not told so
            await connection.execute("SELECT taskbell.enqueue('reminder.due')")
        await connection.execute("RESET ROLE")
        await connection.execute(f'GRANT EXECUTE ON FUNCTION taskbell.enqueue TO "{role}"')
        await connection.execute(f'SET ROLE "{role}"')
        await connection.execute("SELECT taskbell.enqueue('reminder.due', '{}', 'm1')")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("INSERT INTO taskbell.outbox (owner) VALUES ('app')")
        await connection.execute("RESET ROLE")
        assert len(await rows(connection)) == 1
    finally:
        await connection.execute("RESET ROLE")
        await connection.execute(f'DROP OWNED BY "{role}"')
        await connection.execute(f'DROP ROLE "{role}"')


async def test_its_search_path_cannot_be_turned_against_it(connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE SCHEMA evil")
    await connection.execute(
        "CREATE FUNCTION evil.jsonb_typeof(jsonb) RETURNS text LANGUAGE sql AS $$ SELECT 'object' $$"
    )
    await connection.execute("SET search_path = evil, pg_catalog, public")
    with pytest.raises(asyncpg.InvalidParameterValueError, match="body must be a JSON object"):
        await connection.execute("SELECT taskbell.enqueue('reminder.due', '[]')")
