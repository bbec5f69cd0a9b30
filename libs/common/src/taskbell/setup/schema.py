"""Applies migrations, makes the function `taskbell.enqueue`, and on request the web app's tables."""

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from taskbell.contracts import MAX_BODY_BYTES
from taskbell.database import Database, check_writable, quoted
from taskbell.errors import DatabaseUnavailable
from taskbell.extensions import Installed
from taskbell.models import APP, OWN, AppModel
from taskbell.setup import resending
from taskbell.setup.privileges import messages_with

# Several setups at once take turns. The lock ends with the transaction, also behind PgBouncer. Anybody who may connect
# can hold it, so nobody waits for it without end.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('taskbell setup', 0))"

LOCK_TIMEOUT = "2s"
"""How long to wait for any other lock; meanwhile everybody who wants to write to that table waits behind us."""

TURN_TIMEOUT = "5s"
"""How long to wait for another setup to end."""


def _alembic(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("taskbell.migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@lru_cache(maxsize=1)
def head() -> str:
    """The schema version that this version of Taskbell needs."""
    revision = ScriptDirectory.from_config(_alembic()).get_current_head()
    assert revision is not None  # there is always a first version
    return revision


async def migrate(connection: AsyncConnection, granted: Sequence[Installed] = ()) -> str | None:
    """Brings schema `taskbell` to this version, from nothing or from an older version, within the open transaction.

    A newer schema is left unchanged: during a rolling upgrade the older version's setup may run last.

    Args:
        granted: packages whose messages taskbell.enqueue() accepts, in addition to ours.

    Returns:
        The version that was there before; None: there was no schema.

    Raises:
        DBAPIError: with LOCK_NOT_AVAILABLE, another session held a lock for longer than TURN_TIMEOUT or LOCK_TIMEOUT.
    """
    await _take_turn(connection)
    found = await _version(connection)
    if found is not None and found > head():
        return found
    await connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {OWN}"))
    await connection.run_sync(lambda sync: command.upgrade(_alembic(sync), "head"))
    await connection.execute(text(_enqueue_function(granted)))
    await connection.execute(text(f"REVOKE ALL ON FUNCTION {OWN}.enqueue(text, jsonb, text) FROM PUBLIC"))
    await connection.execute(text(resending.FUNCTION))
    await connection.execute(text(f"REVOKE ALL ON FUNCTION {OWN}.{resending.SIGNATURE} FROM PUBLIC"))
    return found


async def _take_turn(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{TURN_TIMEOUT}'")
    await connection.execute(text(_LOCK))
    await connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")


async def _version(connection: AsyncConnection) -> str | None:
    """The version of the existing schema; None: there is no schema."""
    if await connection.scalar(text("SELECT to_regclass('taskbell.alembic_version')")) is None:
        return None
    found: str | None = await connection.scalar(text("SELECT max(version_num) FROM taskbell.alembic_version"))
    return found


async def create_app_tables(connection: AsyncConnection, app_schema: str) -> list[str]:
    """Creates those of users, projects and tasks that are missing, for the demo, tests and new apps.

    Returns:
        The names of the tables that it created.
    """
    await _take_turn(connection)
    await connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {quoted(app_schema)}"))
    await connection.execution_options(schema_translate_map={APP: app_schema})
    names = [table.name for table in AppModel.metadata.sorted_tables]
    missing = await connection.run_sync(
        lambda sync: [name for name in names if not inspect(sync).has_table(name, schema=app_schema)]
    )
    await connection.run_sync(AppModel.metadata.create_all)
    return missing


def _enqueue_function(granted: Sequence[Installed]) -> str:
    known = ", ".join(f"'{message.routing_key}'" for message in messages_with(granted) if message.by_anyone)
    return f"""
        CREATE OR REPLACE FUNCTION {OWN}.enqueue(
            routing_key text, body jsonb DEFAULT '{{}}', message_id text DEFAULT gen_random_uuid()::text
        ) RETURNS text
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF enqueue.routing_key IS NULL OR enqueue.routing_key <> ALL (ARRAY[{known}]) THEN
                RAISE EXCEPTION 'taskbell.enqueue: unknown routing key %', quote_nullable(enqueue.routing_key)
                    USING ERRCODE = 'invalid_parameter_value', HINT = $hint$one of: {known}$hint$;
            END IF;
            IF jsonb_typeof(enqueue.body) IS DISTINCT FROM 'object' THEN
                RAISE EXCEPTION 'taskbell.enqueue: body must be a JSON object'
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            IF octet_length(enqueue.body::text) > {MAX_BODY_BYTES} THEN
                RAISE EXCEPTION 'taskbell.enqueue: body is larger than {MAX_BODY_BYTES} bytes'
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            enqueue.message_id := coalesce(enqueue.message_id, gen_random_uuid()::text);
            IF octet_length(enqueue.message_id) NOT BETWEEN 1 AND 255 THEN
                RAISE EXCEPTION 'taskbell.enqueue: message_id must have 1 to 255 bytes'
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            INSERT INTO {OWN}.outbox (owner, routing_key, body, message_id)
            VALUES ('app', enqueue.routing_key, enqueue.body, enqueue.message_id)
            ON CONFLICT ON CONSTRAINT outbox_message_id_key DO NOTHING;
            -- Another message under that id, or another owner's: whoever handles it tells which is the first.
            IF NOT FOUND AND NOT EXISTS (
                SELECT FROM {OWN}.outbox AS o
                WHERE o.message_id = enqueue.message_id AND o.owner = 'app'
                    AND o.routing_key = enqueue.routing_key AND o.body = enqueue.body
                UNION ALL
                SELECT FROM {OWN}.outbox AS o
                WHERE o.wire_id = enqueue.message_id AND o.owner = 'app'
                    AND o.routing_key = enqueue.routing_key AND o.body = enqueue.body
            ) THEN
                INSERT INTO {OWN}.outbox (owner, routing_key, body, message_id, wire_id)
                VALUES ('app', enqueue.routing_key, enqueue.body, gen_random_uuid()::text, enqueue.message_id);
            END IF;
            RETURN enqueue.message_id;
        END
        $$
    """


async def check_schema(database: Database) -> None:
    """Raises DatabaseUnavailable, which says what to do, if services cannot work with the schema.

    That is if PostgreSQL does not answer, takes no changes or refuses us; or if the schema is missing, is older than
    this version, or is closed to this user.
    """
    try:
        async with database.transaction() as transaction:
            await check_writable(transaction)
            exists = await transaction.value("SELECT to_regclass('taskbell.alembic_version') IS NOT NULL")
            found = await transaction.value("SELECT max(version_num) FROM taskbell.alembic_version") if exists else None
    except DBAPIError as error:
        msg = f"PostgreSQL: {str(error.orig).splitlines()[0]}: run `taskbell setup`"
        raise DatabaseUnavailable(msg) from error
    if found is None:
        msg = "schema taskbell is missing: run `taskbell setup`"
        raise DatabaseUnavailable(msg)
    if found < head():
        msg = f"schema taskbell is at version {found}, this version needs {head()}: run `taskbell setup`"
        raise DatabaseUnavailable(msg)
