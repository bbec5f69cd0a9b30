"""PostgreSQL roles and their grants, applied by `taskbell setup`. What is granted is replaced, never added to."""

import re
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from taskbell.database import quoted, sqlstate
from taskbell.errors import DatabaseUnavailable, SettingsError
from taskbell.models import OWN
from taskbell.setup.privileges import GRANTS, MAY_ENQUEUE, OUTBOX_OWNERS, RoleName, login

_POWERS = ("SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS")

_ATTRIBUTES = """
    SELECT rolsuper AS "SUPERUSER", rolcreatedb AS "CREATEDB", rolcreaterole AS "CREATEROLE",
        rolreplication AS "REPLICATION", rolbypassrls AS "BYPASSRLS"
    FROM pg_roles WHERE rolname = :name
"""


_COLUMNS = re.compile(r"\(([^)]+)\)")
"""The columns that a privilege is limited to."""

_FOUND_COLUMNS = """
    SELECT c.relname, a.attname FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = :app AND c.relname = ANY(CAST(:tables AS text[])) AND c.relkind IN ('r', 'p', 'v')
"""

_POLICIES = """
    SELECT p.polname, p.polcmd = '*' AND p.polpermissive AND p.polroles = ARRAY[to_regrole(quote_ident(p.polname))::oid]
        AND pg_get_expr(p.polqual, p.polrelid) = pg_get_expr(p.polwithcheck, p.polrelid) AS usual,
        pg_get_expr(p.polqual, p.polrelid) AS condition
    FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
    WHERE c.oid = 'taskbell.outbox'::regclass AND c.relrowsecurity
"""

LOCK_NOT_AVAILABLE = "55P03"

PATIENCE = "2s"
"""How long to wait for the outbox: whoever wants to write to it meanwhile waits behind us."""


async def apply_roles(connection: AsyncConnection, passwords: Mapping[RoleName, str], app_schema: str) -> None:
    """Makes or updates the roles whose passwords are given, within the open transaction.

    Needs an administrator who may create roles. A role that is there already keeps its name and gets the password and
    exactly the privileges of this version.

    Raises:
        SettingsError: one of the app's tables is there and has not all columns that are to be read.
    """
    await _check_columns(connection, passwords, app_schema)
    for role, password in passwords.items():
        await _login(connection, login(role), password)
        await _grants(connection, role, app_schema)
    await _outbox_policies(connection, passwords)


async def open_schemas(connection: AsyncConnection, app_schema: str) -> list[str]:
    """Those of schema public and the app's in which everybody may create objects, whatever roles are granted.

    PostgreSQL's default for public up to version 14. It is told of, not mended: the web app may rely on it.
    """
    found = await connection.scalars(
        text("""
            SELECT nspname FROM pg_namespace
            WHERE nspname IN ('public', :app) AND has_schema_privilege('public', oid, 'CREATE') ORDER BY nspname
        """),
        {"app": app_schema},
    )
    return list(found)


async def _login(connection: AsyncConnection, name: str, password: str) -> None:
    found = await connection.execute(text(_ATTRIBUTES), {"name": name})
    role = next(iter(found.mappings()), None)
    if role is None:
        verb, without = "CREATE", list(_POWERS)
    else:
        # Only what it has is taken from it: to name NOSUPERUSER and the like at all is a superuser's privilege.
        verb, without = "ALTER", [power for power in _POWERS if role[power]]
    powers = " ".join(f"NO{power}" for power in without)
    # DDL takes no parameters: PostgreSQL itself quotes the password.
    statement = await connection.scalar(
        text(
            f"SELECT format('{verb} ROLE %I LOGIN NOINHERIT {powers} PASSWORD %L',"
            " CAST(:name AS text), CAST(:password AS text))"
        ),
        {"name": name, "password": password},
    )
    await connection.exec_driver_sql(statement)


async def _grants(connection: AsyncConnection, role: RoleName, app_schema: str) -> None:
    name = quoted(login(role))
    schemas = {"taskbell": OWN, "app": quoted(app_schema)}
    tables = await _tables(connection, app_schema)
    # The web app's own schema and tables are not ours to take from it: it may own them.
    ours = {OWN} if role == "app" else {OWN, app_schema}
    for schema, table in tables:
        if schema in ours:
            await connection.exec_driver_sql(f"REVOKE ALL ON {quoted(schema)}.{quoted(table)} FROM {name}")
    for schema in ours:
        await connection.exec_driver_sql(f"REVOKE ALL ON SCHEMA {quoted(schema)} FROM {name}")
    await connection.exec_driver_sql(f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {OWN} FROM {name}")
    await connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {OWN} TO {name}")
    if GRANTS[role]:
        await connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schemas['app']} TO {name}")
        await connection.exec_driver_sql(f"GRANT SELECT ON {OWN}.alembic_version TO {name}")
    for grant in GRANTS[role]:
        schema, _, table = grant.table.partition(".")
        if schema == "app" and (app_schema, table) not in tables:
            continue  # the app's tables may come later: `taskbell setup` is run again then
        await connection.exec_driver_sql(f"GRANT {grant.privileges} ON {schemas[schema]}.{table} TO {name}")
    if role in MAY_ENQUEUE:
        await connection.exec_driver_sql(f"GRANT EXECUTE ON FUNCTION {OWN}.enqueue(text, jsonb, text) TO {name}")


async def _tables(connection: AsyncConnection, app_schema: str) -> set[tuple[str, str]]:
    rows = await connection.execute(
        text("""
            SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'v') AND (
                n.nspname = 'taskbell'
                OR (n.nspname = :app AND c.relname IN ('users', 'projects', 'tasks')))
        """),
        {"app": app_schema},
    )
    return {(schema, table) for schema, table in rows}


async def _check_columns(connection: AsyncConnection, roles: Iterable[RoleName], app_schema: str) -> None:
    wanted: dict[str, set[str]] = {}
    for grant in (grant for role in roles for grant in GRANTS[role]):
        schema, _, table = grant.table.partition(".")
        if schema == "app":
            wanted.setdefault(table, set()).update(
                name for names in _COLUMNS.findall(grant.privileges) for name in names.split(", ")
            )
    found: dict[str, set[str]] = {}
    for table, column in await connection.execute(text(_FOUND_COLUMNS), {"app": app_schema, "tables": list(wanted)}):
        found.setdefault(table, set()).add(column)
    lacking = {table: sorted(wanted[table] - columns) for table, columns in sorted(found.items())}
    told = [f"{app_schema}.{table} has no {', '.join(names)}" for table, names in lacking.items() if names]
    if told:
        msg = f"{'; '.join(told)}: make views that have them, and name their schema in APP_SCHEMA (docs/app-tables.md)"
        raise SettingsError(msg)


async def _outbox_policies(connection: AsyncConnection, passwords: Mapping[RoleName, str]) -> None:
    """Changes what is not as it should be; the table is locked for that, and not where nothing is to be changed.

    Raises:
        DatabaseUnavailable: somebody has used it for longer than is waited; another try may succeed.
    """
    there = {row.polname: row.condition for row in await connection.execute(text(_POLICIES)) if row.usual}
    wanted = {login(role): OUTBOX_OWNERS[role] for role in passwords if role in OUTBOX_OWNERS}
    changed = {name: owners for name, owners in wanted.items() if there.get(name) != _condition(owners)}
    if not changed:
        return
    await connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE}'")
    try:
        # Superusers and the table's owner, such as one user for all, are not held to policies.
        await connection.exec_driver_sql(f"ALTER TABLE {OWN}.outbox ENABLE ROW LEVEL SECURITY")
    except DBAPIError as error:
        if sqlstate(error) == LOCK_NOT_AVAILABLE:
            msg = f"a transaction that is open uses {OWN}.outbox, whose policies are to be changed"
            raise DatabaseUnavailable(msg) from error
        raise
    for name, owners in changed.items():
        condition = _condition(owners)
        await connection.exec_driver_sql(f"DROP POLICY IF EXISTS {name} ON {OWN}.outbox")
        await connection.exec_driver_sql(
            f"CREATE POLICY {name} ON {OWN}.outbox TO {quoted(name)} USING ({condition}) WITH CHECK ({condition})"
        )


def _condition(owners: Sequence[str]) -> str:
    """As PostgreSQL itself writes it, so that one that is there is known again."""
    values = [f"'{owner}'::text" for owner in owners]
    return f"(owner = {values[0]})" if len(values) == 1 else f"(owner = ANY (ARRAY[{', '.join(values)}]))"
