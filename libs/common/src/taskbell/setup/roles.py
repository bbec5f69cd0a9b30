"""PostgreSQL roles and their grants, applied by `taskbell setup`. What is granted is replaced, never added to."""

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from taskbell.database import quoted
from taskbell.models import OWN
from taskbell.setup.privileges import GRANTS, MAY_ENQUEUE, OUTBOX_OWNERS, RoleName, login

_POWERS = ("SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS")

_ATTRIBUTES = """
    SELECT rolsuper AS "SUPERUSER", rolcreatedb AS "CREATEDB", rolcreaterole AS "CREATEROLE",
        rolreplication AS "REPLICATION", rolbypassrls AS "BYPASSRLS"
    FROM pg_roles WHERE rolname = :name
"""


async def apply_roles(connection: AsyncConnection, passwords: Mapping[RoleName, str], app_schema: str) -> None:
    """Makes or updates the roles whose passwords are given, within the open transaction.

    Needs an administrator who may create roles. A role that is there already keeps its name and gets the password and
    exactly the privileges of this version.
    """
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


async def _outbox_policies(connection: AsyncConnection, passwords: Mapping[RoleName, str]) -> None:
    roles = [role for role in passwords if role in OUTBOX_OWNERS]
    if not roles:
        return
    # Superusers and the table's owner, such as one user for all, are not held to policies.
    await connection.exec_driver_sql(f"ALTER TABLE {OWN}.outbox ENABLE ROW LEVEL SECURITY")
    for role in roles:
        owners = ", ".join(f"'{owner}'" for owner in OUTBOX_OWNERS[role])
        await connection.exec_driver_sql(f"DROP POLICY IF EXISTS {login(role)} ON {OWN}.outbox")
        await connection.exec_driver_sql(
            f"CREATE POLICY {login(role)} ON {OWN}.outbox TO {quoted(login(role))}"
            f" USING (owner IN ({owners})) WITH CHECK (owner IN ({owners}))"
        )
