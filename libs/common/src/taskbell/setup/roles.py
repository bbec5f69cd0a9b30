"""PostgreSQL roles and their grants, applied by `taskbell setup`. What is granted is replaced, never added to."""

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from taskbell.database import quoted
from taskbell.models import OWN
from taskbell.setup.privileges import GRANTS, OUTBOX_OWNERS, RoleName, login


async def apply_roles(connection: AsyncConnection, passwords: Mapping[RoleName, str], app_schema: str) -> None:
    """Makes or updates the roles whose passwords are given, within the open transaction.

    Needs an administrator who may create roles. A role that is there already keeps its name and gets the password and
    exactly the privileges of this version.
    """
    for role, password in passwords.items():
        await _login(connection, login(role), password)
        await _grants(connection, role, app_schema)
    await _outbox_policies(connection, passwords)


async def _login(connection: AsyncConnection, name: str, password: str) -> None:
    exists = await connection.scalar(text("SELECT true FROM pg_roles WHERE rolname = :name"), {"name": name})
    verb = "ALTER" if exists else "CREATE"
    # DDL takes no parameters: PostgreSQL itself quotes the password.
    statement = await connection.scalar(
        text(
            f"SELECT format('{verb} ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT PASSWORD %L',"
            " CAST(:name AS text), CAST(:password AS text))"
        ),
        {"name": name, "password": password},
    )
    await connection.exec_driver_sql(statement)


async def _grants(connection: AsyncConnection, role: RoleName, app_schema: str) -> None:
    name = quoted(login(role))
    schemas = {"taskbell": OWN, "app": quoted(app_schema)}
    tables = await _tables(connection, app_schema)
    for schema, table in tables:
        await connection.exec_driver_sql(f"REVOKE ALL ON {quoted(schema)}.{quoted(table)} FROM {name}")
    await connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {OWN} TO {name}")
    if GRANTS[role]:
        await connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schemas['app']} TO {name}")
        await connection.exec_driver_sql(f"GRANT SELECT ON {OWN}.alembic_version TO {name}")
    for grant in GRANTS[role]:
        schema, _, table = grant.table.partition(".")
        if schema == "app" and (app_schema, table) not in tables:
            continue  # the app's tables may come later: `taskbell setup` is run again then
        await connection.exec_driver_sql(f"GRANT {grant.privileges} ON {schemas[schema]}.{table} TO {name}")
    if role in {"app", "operator"}:
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
