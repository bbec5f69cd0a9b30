"""What each role may do in PostgreSQL: every cell of the matrix below is tried, and every denial is PostgreSQL's own.

The matrix is written by hand, so that a change of the grants has to be meant twice.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping

import asyncpg
import pytest
import pytest_asyncio
from tests.support.roles import ROLES, Logins

EVERYTHING = "SELECT INSERT UPDATE DELETE"

# What is not here is denied: by table, what a role may do with all columns, or with those in brackets.
MAY: Mapping[str, Mapping[str, str]] = {
    "scheduler": {
        "users": "SELECT (timezone, is_active)",
        "alembic_version": "SELECT",
        "schedule_state": "SELECT INSERT UPDATE",
        "occurrence": "SELECT INSERT DELETE UPDATE (recorded_at)",
        "outbox": EVERYTHING,
    },
    "notifier": {
        "users": "SELECT (id, name, email, timezone, locale, is_active)",
        "projects": "SELECT (id, name)",
        "tasks": "SELECT (id, title, status, priority, due_date, completed_at, project_id, assignee_id)",
        "alembic_version": "SELECT",
        "mailing": EVERYTHING,
        "delivery": EVERYTHING,
        "preference": "SELECT INSERT UPDATE",
        "suppression": "SELECT INSERT",
        "command": EVERYTHING,
        "report": "SELECT",
        "outbox": EVERYTHING,
    },
    "maintenance": {
        "projects": "SELECT (id, name)",
        "tasks": "SELECT DELETE UPDATE (status, updated_at, completed_at)",
        "alembic_version": "SELECT",
        "delivery": "SELECT (kind, state, ended_at)",
        "command": EVERYTHING,
        "report": "SELECT INSERT UPDATE",
        "archive_batch": "SELECT INSERT UPDATE",
        "archived_task": "INSERT",
        "outbox": EVERYTHING,
    },
    "app": {},
    "operator": {
        "users": "SELECT (id, name, email, timezone, locale, is_active)",
        "projects": "SELECT (id, name)",
        "tasks": "SELECT INSERT",
        "alembic_version": "SELECT",
        "schedule_state": "SELECT INSERT UPDATE",
        "occurrence": "SELECT",
        "outbox": "SELECT",
        "command": "SELECT",
        "mailing": "SELECT",
        "delivery": "SELECT",
        "preference": "SELECT",
        "suppression": "SELECT DELETE",
        "report": "SELECT",
        "archive_batch": "SELECT UPDATE (restored)",
        "archived_task": "SELECT UPDATE (restored_at)",
    },
}
APP_TABLES = {"users", "projects", "tasks"}
OWN_TABLES = {
    *("alembic_version", "archive_batch", "archived_task", "command", "delivery", "mailing", "occurrence", "outbox"),
    *("preference", "report", "schedule_state", "suppression"),
}
MAY_ENQUEUE = {"app", "operator"}
SEES_OUTBOX_OF = {
    "scheduler": {"scheduler"},
    "notifier": {"notifier"},
    "maintenance": {"maintenance", "app"},
    "operator": {"scheduler", "notifier", "maintenance", "app"},
}
OWNERS = ("scheduler", "notifier", "maintenance", "app")

# Tried column by column, and without rows: neither another privilege nor a constraint has a say.
TRIES = {
    "SELECT": "SELECT {column} FROM {table} LIMIT 0",
    "INSERT": "INSERT INTO {table} ({column}) OVERRIDING SYSTEM VALUE SELECT NULL WHERE false",
    "UPDATE": "UPDATE {table} SET {column} = DEFAULT WHERE false",
}
ON_THE_DATABASE = [
    "CREATE TABLE taskbell.mine (id int)",
    "CREATE TABLE public.mine (id int)",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "CREATE ROLE taskbell_mine",
    "DROP FUNCTION taskbell.enqueue(text, jsonb, text)",
    "DROP SCHEMA taskbell CASCADE",
    "DROP POLICY taskbell_scheduler ON taskbell.outbox",
    "GRANT taskbell_operator TO taskbell_app",
]
ON_EACH_TABLE = [
    "ALTER TABLE {table} ADD COLUMN mine int",
    "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE {table} OWNER TO CURRENT_USER",
    "CREATE INDEX ON {table} ((1))",
    "DROP TABLE {table} CASCADE",
    "TRUNCATE {table} CASCADE",
]
OF_ANOTHER = "new row violates row-level security policy"

Columns = Mapping[str, list[str]]


@pytest_asyncio.fixture(scope="module")
async def columns(logins: Logins) -> Columns:
    """The columns of each table of ours and of the app's, and a row of each owner in the outbox."""
    connection = await asyncpg.connect(logins.administrator)
    try:
        for owner in OWNERS:
            await connection.execute(
                "INSERT INTO taskbell.outbox (owner, routing_key, body, message_id)"
                " VALUES ($1, 'weekly.due', '{}', $1)",
                owner,
            )
        found: dict[str, list[str]] = {}
        for table, column in await connection.fetch(
            "SELECT table_schema || '.' || table_name, column_name FROM information_schema.columns"
            " WHERE table_schema IN ('taskbell', 'public')"
        ):
            found.setdefault(table, []).append(column)
        return found
    finally:
        await connection.close()


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest_asyncio.fixture
async def connection(role: str, logins: Logins) -> AsyncIterator[asyncpg.Connection]:
    """A connection of that role."""
    connection = await asyncpg.connect(logins.database[role])
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def connections(logins: Logins) -> AsyncIterator[Mapping[str, asyncpg.Connection]]:
    connections = {role: await asyncpg.connect(url) for role, url in logins.database.items()}
    yield connections
    for connection in connections.values():
        await connection.close()


async def is_allowed(connection: asyncpg.Connection, statement: str) -> bool:
    """Executes it and takes it back. Only a lack of privileges is a denial; any other error is the test's."""
    try:
        async with rolled_back(connection):
            await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return False
    return True


@contextlib.asynccontextmanager
async def rolled_back(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """A transaction that leaves nothing behind."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


def granted(privileges: str, columns: list[str]) -> set[tuple[str, str]]:
    """Every verb and column of such a cell."""
    pairs: set[tuple[str, str]] = set()
    for verb, some in re.findall(r"(\w+)(?: \(([^)]*)\))?", privileges):
        pairs |= {(verb, column) for column in (some.split(", ") if some else columns)}
    return pairs


async def test_every_role_may_do_with_each_table_what_the_matrix_says_and_nothing_else(
    role: str, connection: asyncpg.Connection, columns: Columns
) -> None:
    own, apps = ({f"taskbell.{it}" for it in OWN_TABLES}, {f"public.{it}" for it in APP_TABLES})
    assert columns.keys() == own | apps
    for table, names in columns.items():
        allowed = {
            (verb, name)
            for verb, statement in TRIES.items()
            for name in names
            if await is_allowed(connection, statement.format(table=table, column=f'"{name}"'))
        }
        if await is_allowed(connection, f"DELETE FROM {table} WHERE false"):
            allowed |= {("DELETE", name) for name in names}
        expected = granted(MAY[role].get(table.partition(".")[2], ""), names)
        assert allowed == expected, f"{role} on {table}: {sorted(allowed ^ expected)}"


async def test_no_role_may_change_tables_schemas_or_roles(connection: asyncpg.Connection, columns: Columns) -> None:
    per_table = [statement.format(table=table) for table in columns for statement in ON_EACH_TABLE]
    allowed = [statement for statement in ON_THE_DATABASE + per_table if await is_allowed(connection, statement)]
    assert allowed == []


async def test_no_role_may_become_another(role: str, connection: asyncpg.Connection) -> None:
    others = [other for other in ROLES if other != role]
    assert [it for it in others if await is_allowed(connection, f"SET ROLE taskbell_{it}")] == []


async def test_the_web_app_and_operators_may_enqueue_and_services_may_not(
    role: str, connection: asyncpg.Connection
) -> None:
    assert await is_allowed(connection, "SELECT taskbell.enqueue('weekly.due')") == (role in MAY_ENQUEUE)


async def test_the_public_has_no_rights_in_schema_taskbell(logins: Logins) -> None:
    connection = await asyncpg.connect(logins.administrator)
    try:
        rights = await connection.fetchrow("""
            SELECT has_schema_privilege('public', 'taskbell', 'USAGE') AS usage,
                has_schema_privilege('public', 'taskbell', 'CREATE') AS make,
                has_function_privilege('public', 'taskbell.enqueue(text, jsonb, text)', 'EXECUTE') AS enqueue
        """)
        tables = await connection.fetch(
            "SELECT table_name FROM information_schema.table_privileges"
            " WHERE table_schema = 'taskbell' AND grantee = 'PUBLIC'"
        )
    finally:
        await connection.close()
    assert dict(rights) == {"usage": False, "make": False, "enqueue": False}
    assert tables == []


@pytest.mark.usefixtures("columns")
async def test_a_role_sees_and_takes_only_its_own_rows_of_the_outbox(
    connections: Mapping[str, asyncpg.Connection],
) -> None:
    for role, owners in SEES_OUTBOX_OF.items():
        seen = await connections[role].fetch("SELECT DISTINCT owner FROM taskbell.outbox")
        assert {row["owner"] for row in seen} == owners, role
        if role == "operator":
            continue  # it may only look
        for change in ("UPDATE taskbell.outbox SET attempts = attempts", "DELETE FROM taskbell.outbox"):
            async with rolled_back(connections[role]):
                changed = await connections[role].fetch(f"{change} RETURNING owner")
            assert {row["owner"] for row in changed} == owners, f"{role}: {change}"


@pytest.mark.usefixtures("columns")
async def test_no_service_may_write_or_hand_over_a_row_of_the_outbox_for_another(
    connections: Mapping[str, asyncpg.Connection],
) -> None:
    for role in ("scheduler", "notifier", "maintenance"):
        for owner in OWNERS:
            insert = (
                "INSERT INTO taskbell.outbox (owner, routing_key, body, message_id)"
                f" VALUES ('{owner}', 'weekly.due', '{{}}', 'new')"
            )
            for statement in (insert, f"UPDATE taskbell.outbox SET owner = '{owner}'"):
                async with rolled_back(connections[role]):
                    if owner in SEES_OUTBOX_OF[role]:
                        await connections[role].execute(statement)
                    else:
                        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=OF_ANOTHER):
                            await connections[role].execute(statement)


async def test_the_scheduler_cannot_read_tasks_or_mail(connections: Mapping[str, asyncpg.Connection]) -> None:
    for table in ("public.tasks", "taskbell.mailing", "taskbell.delivery", "taskbell.suppression"):
        assert not await is_allowed(connections["scheduler"], f"SELECT FROM {table}")


async def test_the_notifier_cannot_change_tasks(connections: Mapping[str, asyncpg.Connection]) -> None:
    for change in ("UPDATE tasks SET status = 'done'", "DELETE FROM tasks", "INSERT INTO tasks (title) VALUES ('x')"):
        assert not await is_allowed(connections["notifier"], change)


async def test_maintenance_cannot_mark_a_mail_sent(connections: Mapping[str, asyncpg.Connection]) -> None:
    assert not await is_allowed(connections["maintenance"], "UPDATE taskbell.delivery SET state = 'sent'")
    assert not await is_allowed(connections["maintenance"], "DELETE FROM taskbell.delivery")
