"""Nobody but the administrator who runs `taskbell setup` changes tables, and setup leaves nobody more than they had."""

import uuid
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import create_async_engine
from tests.support.databases import database_name
from tests.support.roles import NAMES, Roles, allows, connected

from taskbell.setup import schema
from taskbell.setup.privileges import ROLES, login
from taskbell.setup.roles import apply_roles

APP = '"The App"'
TABLES = (
    *(f"{APP}.{name}" for name in ("users", "projects", "tasks")),
    "taskbell.alembic_version",
    "taskbell.archive_batch",
    "taskbell.archived_task",
    "taskbell.command",
    "taskbell.delivery",
    "taskbell.mailing",
    "taskbell.occurrence",
    "taskbell.outbox",
    "taskbell.preference",
    "taskbell.refused_command",
    "taskbell.report",
    "taskbell.schedule_state",
    "taskbell.suppression",
)

ON_EACH_TABLE = (
    "ALTER TABLE {table} ADD COLUMN more text",
    "ALTER TABLE {table} OWNER TO CURRENT_USER",
    "ALTER TABLE {table} DISABLE TRIGGER ALL",
    "DROP TABLE {table} CASCADE",
    "TRUNCATE {table} CASCADE",
    "CREATE INDEX ON {table} ((1))",
    "CREATE POLICY everything ON {table}",
    "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
    "CREATE TRIGGER spy AFTER INSERT ON {table} EXECUTE FUNCTION tsvector_update_trigger()",
)

ELSEWHERE = (
    "CREATE TABLE taskbell.more ()",
    f"CREATE TABLE {APP}.more ()",
    "CREATE VIEW taskbell.more AS SELECT 1",
    "CREATE FUNCTION taskbell.more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    f"CREATE FUNCTION {APP}.more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER FUNCTION taskbell.enqueue SECURITY INVOKER",
    "DROP FUNCTION taskbell.enqueue",
    "DROP POLICY taskbell_notifier ON taskbell.outbox",
    "DROP SCHEMA taskbell CASCADE",
    f"DROP SCHEMA {APP} CASCADE",
    "CREATE SCHEMA more",
    "CREATE ROLE more",
    "ALTER ROLE {other} PASSWORD 'stolen'",
    "GRANT {other} TO CURRENT_USER",
    "ALTER ROLE CURRENT_USER BYPASSRLS",
    "SET ROLE {admin}",
    "SET session_replication_role = replica",
    "COPY (SELECT 1) TO PROGRAM 'cat'",
)


@pytest_asyncio.fixture(scope="module")
async def admin(roles: Roles) -> AsyncIterator[asyncpg.Connection]:
    async with connected(roles.admin_url) as connection:
        yield connection


@pytest.mark.parametrize("role", NAMES)
async def test_no_role_may_change_a_table(roles: Roles, role: str) -> None:
    statements = [statement.format(table=table) for table in TABLES for statement in ON_EACH_TABLE]
    async with connected(roles.database_url(role)) as connection:
        assert [it for it in statements if await allows(connection, it)] == []


@pytest.mark.parametrize("role", NAMES)
@pytest.mark.parametrize("statement", ELSEWHERE)
async def test_no_role_may_make_or_take_anything_else(
    roles: Roles, admin: asyncpg.Connection, role: str, statement: str
) -> None:
    other = "taskbell_notifier" if role == "maintenance" else "taskbell_maintenance"
    names = {"admin": await admin.fetchval("SELECT current_user"), "other": other}
    async with connected(roles.database_url(role)) as connection:
        assert not await allows(connection, statement.format(**names))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT taskbell.enqueue('weekly.due')",
        "SELECT count(*) FROM taskbell.outbox",
        "SELECT count(*) FROM taskbell.alembic_version",
        "CREATE TABLE taskbell.more ()",
        f"SELECT count(*) FROM {APP}.tasks",
    ],
)
async def test_everybody_else_may_do_nothing_at_all(admin: asyncpg.Connection, statement: str) -> None:
    stranger = f"stranger_{uuid.uuid4().hex[:12]}"
    transaction = admin.transaction()
    await transaction.start()
    try:
        await admin.execute(f"CREATE ROLE {stranger}; SET LOCAL ROLE {stranger}")
        assert not await allows(admin, statement)
    finally:
        await transaction.rollback()  # the role has never been there


async def test_what_a_role_was_given_besides_goes_when_setup_runs_again(
    roles: Roles, admin: asyncpg.Connection
) -> None:
    await admin.execute(f"""
        GRANT ALL ON ALL TABLES IN SCHEMA taskbell, {APP} TO taskbell_scheduler;
        GRANT SELECT (email) ON {APP}.users TO taskbell_scheduler;
        GRANT CREATE ON SCHEMA taskbell, {APP} TO taskbell_scheduler;
        GRANT EXECUTE ON FUNCTION taskbell.enqueue TO taskbell_scheduler, PUBLIC;
        ALTER ROLE taskbell_scheduler BYPASSRLS CREATEDB CREATEROLE;
    """)
    more = (
        f"DELETE FROM {APP}.tasks",
        f"SELECT email FROM {APP}.users",
        "SELECT FROM taskbell.delivery",
        "CREATE TABLE taskbell.more ()",
        f"CREATE TABLE {APP}.more ()",
        "SELECT taskbell.enqueue('weekly.due')",
        "CREATE ROLE more",
    )
    try:
        async with connected(roles.database_url("scheduler")) as connection:
            assert [it for it in more if not await allows(connection, it)] == []
            await roles.set_up()
            assert [it for it in more if await allows(connection, it)] == []
            powers = "SELECT rolbypassrls OR rolcreatedb FROM pg_roles WHERE rolname = user"
            assert not await connection.fetchval(powers)
    finally:
        # The role outlives this database: other tests log in as it, whatever has become of this one.
        await admin.execute("ALTER ROLE taskbell_scheduler NOBYPASSRLS NOCREATEDB NOCREATEROLE")


async def test_what_the_app_may_do_with_its_own_tables_is_left_as_it_is(
    roles: Roles, admin: asyncpg.Connection
) -> None:
    await admin.execute(f"""
        ALTER TABLE {APP}.tasks OWNER TO taskbell_app;
        GRANT USAGE ON SCHEMA {APP} TO taskbell_app;
        GRANT SELECT, INSERT ON {APP}.users TO taskbell_app;
    """)
    await roles.set_up()
    async with connected(roles.database_url("app")) as connection:
        assert await allows(connection, f"INSERT INTO {APP}.tasks (id, title) VALUES (7, 'Mine')")
        assert await allows(connection, f"DELETE FROM {APP}.tasks")
        assert await allows(connection, f"INSERT INTO {APP}.users (id, name) VALUES (7, 'Ada')")
        assert not await allows(connection, "SELECT FROM taskbell.outbox")
    await admin.execute(f"ALTER TABLE {APP}.tasks OWNER TO CURRENT_USER; REVOKE ALL ON {APP}.users FROM taskbell_app")


async def test_setup_says_where_everybody_may_make_tables(roles: Roles, admin: asyncpg.Connection) -> None:
    """Up to version 14 PostgreSQL gives that away on schema public; a web app may live on it, so it is not taken."""
    said = "schema public, in which PostgreSQL lets everybody make objects"
    make = "CREATE TABLE public.more ()"
    async with connected(roles.database_url("scheduler")) as connection:
        await admin.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
        assert said in await roles.set_up()
        assert await allows(connection, make)

        await admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        assert said not in await roles.set_up()
        assert not await allows(connection, make)


@pytest.mark.usefixtures("roles")
async def test_setup_needs_no_superuser_also_when_it_runs_again(empty_database_url: str) -> None:
    owner = f"owner_{uuid.uuid4().hex[:12]}"
    engine = create_async_engine(urlsplit(empty_database_url)._replace(scheme="postgresql+asyncpg").geturl())
    try:
        async with engine.connect() as connection:
            # Roles that somebody else has made are out of the way until all of this is rolled back.
            for name in map(login, ROLES):
                await connection.exec_driver_sql(f"ALTER ROLE {name} RENAME TO {name}_{owner}")
            await connection.exec_driver_sql(f"CREATE ROLE {owner} CREATEROLE")
            await connection.exec_driver_sql(f"GRANT CREATE ON DATABASE {database_name(empty_database_url)} TO {owner}")
            await connection.exec_driver_sql(f"SET LOCAL ROLE {owner}")
            for _ in range(2):
                await schema.migrate(connection)
                await apply_roles(connection, dict.fromkeys(ROLES, "secret"), "public")
            await connection.rollback()
    finally:
        await engine.dispose()
