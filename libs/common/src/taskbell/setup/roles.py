"""PostgreSQL roles and their grants, applied by `taskbell setup`. Former grants are replaced, not added to."""

import re
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from taskbell.database import quoted, sqlstate
from taskbell.errors import DatabaseUnavailable, SettingsError
from taskbell.models import OWN
from taskbell.setup.privileges import GRANTS, MAY_ENQUEUE, OUTBOX_OWNERS, RoleName, login

_ROLE_ATTRIBUTES = ("SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS")

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

LOCK_TIMEOUT = "2s"
"""How long to wait for the lock on the outbox; meanwhile everybody who wants to write to it waits behind us."""


async def apply_roles(connection: AsyncConnection, passwords: Mapping[RoleName, str], app_schema: str) -> None:
    """Makes or updates the roles whose passwords are given, within the open transaction.

    Needs an administrator who may create roles. A role that exists already gets the password and exactly the privileges
    of this version.

    Raises:
        SettingsError: one of the app's tables exists but lacks columns that Taskbell reads.
    """
    await _check_columns(connection, passwords, app_schema)
    for role, password in passwords.items():
        await _login(connection, login(role), password)
        await _grants(connection, role, app_schema)
    await _outbox_policies(connection, passwords)


async def open_schemas(connection: AsyncConnection, app_schema: str) -> list[str]:
    """Whichever of schema public and the app's schema lets everybody create objects, whatever roles are granted.

    That is PostgreSQL's default for public up to version 14. Setup reports it but does not change it, because the web
    app may rely on it.
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
        verb, without = "CREATE", list(_ROLE_ATTRIBUTES)
    else:
        # Remove only the attributes that the role has: only a superuser may even name NOSUPERUSER and the like.
        verb, without = "ALTER", [attribute for attribute in _ROLE_ATTRIBUTES if role[attribute]]
    removed = " ".join(f"NO{attribute}" for attribute in without)
    # DDL takes no parameters, so PostgreSQL itself quotes the password.
    statement = await connection.scalar(
        text(
            f"SELECT format('{verb} ROLE %I LOGIN NOINHERIT {removed} PASSWORD %L',"
            " CAST(:name AS text), CAST(:password AS text))"
        ),
        {"name": name, "password": password},
    )
    await connection.exec_driver_sql(statement)


async def _grants(connection: AsyncConnection, role: RoleName, app_schema: str) -> None:
    name = quoted(login(role))
    schemas = {"taskbell": OWN, "app": quoted(app_schema)}
    tables = await _tables(connection, app_schema)
    # The app role keeps its rights on the web app's own schema and tables: it may own them.
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
            continue  # the app's tables may be made later; then `taskbell setup` is run again
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
    mistakes = [f"{app_schema}.{table} has no {', '.join(names)}" for table, names in lacking.items() if names]
    if mistakes:
        remedy = "make views that have them, and name their schema in APP_SCHEMA (docs/app-tables.md)"
        msg = f"{'; '.join(mistakes)}: {remedy}"
        raise SettingsError(msg)


async def _outbox_policies(connection: AsyncConnection, passwords: Mapping[RoleName, str]) -> None:
    """Changes the policies that are not as they should be. The table is locked only if there is something to change.

    Raises:
        DatabaseUnavailable: another transaction used the table for longer than LOCK_TIMEOUT; another try may succeed.
    """
    there = {row.polname: row.condition for row in await connection.execute(text(_POLICIES)) if row.usual}
    wanted = {login(role): OUTBOX_OWNERS[role] for role in passwords if role in OUTBOX_OWNERS}
    changed = {name: owners for name, owners in wanted.items() if there.get(name) != _condition(owners)}
    if not changed:
        return
    await connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    try:
        # Policies do not apply to superusers and the table's owner, such as a single user for everything.
        await connection.exec_driver_sql(f"ALTER TABLE {OWN}.outbox ENABLE ROW LEVEL SECURITY")
    except DBAPIError as error:
        if sqlstate(error) == LOCK_NOT_AVAILABLE:
            msg = f"an open transaction uses {OWN}.outbox, whose policies must be changed: end it, or try again later"
            raise DatabaseUnavailable(msg) from error
        raise
    for name, owners in changed.items():
        condition = _condition(owners)
        await connection.exec_driver_sql(f"DROP POLICY IF EXISTS {name} ON {OWN}.outbox")
        await connection.exec_driver_sql(
            f"CREATE POLICY {name} ON {OWN}.outbox TO {quoted(name)} USING ({condition}) WITH CHECK ({condition})"
        )


def _condition(owners: Sequence[str]) -> str:
    """The policy's condition, written as PostgreSQL shows it, so that it can be compared with the existing one."""
    values = [f"'{owner}'::text" for owner in owners]
    return f"(owner = {values[0]})" if len(values) == 1 else f"(owner = ANY (ARRAY[{', '.join(values)}]))"
