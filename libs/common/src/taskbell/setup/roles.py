"""PostgreSQL roles and their grants, applied by `taskbell setup`. Former grants are replaced, not added to."""

from collections.abc import Collection, Iterable, Mapping, Sequence, Set

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from taskbell.database import quoted, sqlstate
from taskbell.errors import DatabaseUnavailable, SettingsError
from taskbell.extensions import Grant, Installed
from taskbell.extensions.checks import is_closed
from taskbell.extensions.parts import Privilege
from taskbell.models import OWN
from taskbell.setup import package_roles, resending
from taskbell.setup.privileges import GRANTS, MAY_ENQUEUE, MAY_RESEND, OUTBOX_OWNERS, ROLES, Passwords, login
from taskbell.setup.report import SetupReport
from taskbell.setup.rights import Right, in_words, revoke, rights_of
from taskbell.setup.schema import LOCK_TIMEOUT

_ROLE_ATTRIBUTES = ("SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS")

_ATTRIBUTES = """
    SELECT rolsuper AS "SUPERUSER", rolcreatedb AS "CREATEDB", rolcreaterole AS "CREATEROLE",
        rolreplication AS "REPLICATION", rolbypassrls AS "BYPASSRLS"
    FROM pg_roles WHERE rolname = :name
"""


_FOUND_COLUMNS = """
    SELECT n.nspname, c.relname, a.attname FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN ROWS FROM (pg_catalog.unnest(CAST(:schemas AS text[])), pg_catalog.unnest(CAST(:tables AS text[])))
        AS wanted (nspname, relname)
        ON wanted.nspname = n.nspname AND wanted.relname = c.relname
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""

_POLICIES = """
    SELECT p.polname, p.polcmd = '*' AND p.polpermissive AND p.polroles = ARRAY[to_regrole(quote_ident(p.polname))::oid]
        AND pg_get_expr(p.polqual, p.polrelid) = pg_get_expr(p.polwithcheck, p.polrelid) AS usual,
        pg_get_expr(p.polqual, p.polrelid) AS condition
    FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
    WHERE c.oid = 'taskbell.outbox'::regclass AND c.relrowsecurity
"""

LOCK_NOT_AVAILABLE = "55P03"

NOBODY = "neither this version nor a package that is granted asks for it"
"""Why rights are revoked."""

Columns = Mapping[tuple[str, str], Set[str]]
"""The columns of tables that exist, by schema and table."""


async def apply_roles(
    connection: AsyncConnection, passwords: Passwords, app_schema: str, granted: Sequence[Installed] = ()
) -> SetupReport:
    """Makes or updates the roles whose passwords are given, within the open transaction.

    Needs an administrator who may create roles. A role that exists already gets the password and exactly the privileges
    of this version and of the packages that are granted; those of a package's service are taken away if it is not.

    Args:
        passwords: of our roles and of the services of packages that are granted; none: no role is touched.

    Raises:
        SettingsError: one of the app's tables exists but lacks columns that Taskbell reads.
    """
    if not passwords:
        return SetupReport()
    passwords, report = await package_roles.without_foreign(connection, passwords, granted)
    ours = [grant for role in passwords for grant in GRANTS.get(role, ())]
    theirs = [(package, grant) for package in granted for grant in package.extension.grants if grant.role in passwords]
    columns = await _columns(connection, [*ours, *(grant for _, grant in theirs)], app_schema)
    _check_columns(ours, columns, app_schema)
    right, left_out = [], []
    for package, grant in theirs:
        if wrong := _wrong_with(grant, columns, app_schema):
            left_out.append(f"package {package.package}: {wrong}")
        else:
            right.append(grant)
    taken = []
    for role, password in passwords.items():
        await _login(connection, login(role), password)
        await package_roles.mark(connection, role, granted)
        lost = await _replace_rights(connection, role, [grant for grant in right if grant.role == role], app_schema)
        if lost:
            taken.append(f"PostgreSQL: took {in_words(lost)} from {login(role)}: {NOBODY}")
    done = (
        [f"PostgreSQL: the roles {', '.join(map(login, passwords))} are there, with their grants"] if passwords else []
    )
    report += SetupReport([*done, *taken], left_out) + await package_roles.retire(connection, granted)
    await _outbox_policies(connection, passwords)
    return report


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


async def triggers_without_path(connection: AsyncConnection, app_schema: str) -> list[tuple[str, str]]:
    """Triggers on the app's tables that Taskbell may fire, with their functions, if these set no search_path.

    Taskbell looks names up in PostgreSQL's own schema alone, and so does such a function when we change a row.
    """
    found = await connection.execute(
        text("""
            SELECT t.tgname, format('%I.%I(%s)', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid))
            FROM pg_trigger AS t
            JOIN pg_class AS c ON c.oid = t.tgrelid
            JOIN pg_namespace AS a ON a.oid = c.relnamespace
            JOIN pg_proc AS f ON f.oid = t.tgfoid
            JOIN pg_namespace AS n ON n.oid = f.pronamespace
            JOIN pg_language AS l ON l.oid = f.prolang
            WHERE a.nspname = :app AND c.relname = 'tasks' AND NOT t.tgisinternal AND t.tgenabled <> 'D'
                AND l.lanname NOT IN ('internal', 'c')
                AND NOT coalesce(array_to_string(f.proconfig, ',') LIKE '%search_path=%', false)
            ORDER BY t.tgname
        """),
        {"app": app_schema},
    )
    return [(row[0], row[1]) for row in found]


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


async def _replace_rights(
    connection: AsyncConnection, role: str, more: Sequence[Grant], app_schema: str
) -> Collection[Right]:
    """Gives that role exactly its rights; returns those that it had besides."""
    name = quoted(login(role))
    # The app role keeps its rights on the web app's own schema and tables: it may own them.
    before = {it for it in await rights_of(connection, login(role)) if role != "app" or it.schema == OWN}
    await revoke(connection, login(role), before)
    await connection.exec_driver_sql(f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {OWN} FROM {name}")
    ours = GRANTS.get(role, ())
    if role in ROLES:
        await connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {OWN} TO {name}")
    if ours:
        await connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {quoted(app_schema)} TO {name}")
        await connection.exec_driver_sql(f"GRANT SELECT ON {OWN}.alembic_version TO {name}")
    existing = await _columns(connection, ours, app_schema)
    for grant in (*ours, *more):
        schema, table = _place(grant, app_schema)
        if grant in ours and (schema, table) not in existing:
            continue  # the app's tables may be made later; then `taskbell setup` is run again
        await connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {name}")
        privileges = ", ".join(map(_sql, grant.taken_apart))
        await connection.exec_driver_sql(f"GRANT {privileges} ON {quoted(schema)}.{quoted(table)} TO {name}")
    if role in MAY_ENQUEUE:
        await connection.exec_driver_sql(f"GRANT EXECUTE ON FUNCTION {OWN}.enqueue(text, jsonb, text) TO {name}")
    if role in MAY_RESEND:
        await connection.exec_driver_sql(f"GRANT EXECUTE ON FUNCTION {OWN}.{resending.SIGNATURE} TO {name}")
    return before - await rights_of(connection, login(role))


def _sql(privilege: Privilege) -> str:
    columns = ", ".join(map(quoted, privilege.columns))
    return f"{privilege.verb} ({columns})" if columns else privilege.verb


def _place(grant: Grant, app_schema: str) -> tuple[str, str]:
    """Schema and table of a grant."""
    schema, _, table = grant.table.partition(".")
    return app_schema if schema == "app" else schema, table


async def _columns(connection: AsyncConnection, grants: Iterable[Grant], app_schema: str) -> Columns:
    places = sorted({_place(grant, app_schema) for grant in grants})
    known = {"schemas": [schema for schema, _ in places], "tables": [table for _, table in places]}
    found: dict[tuple[str, str], set[str]] = {}
    for schema, table, column in await connection.execute(text(_FOUND_COLUMNS), known):
        found.setdefault((schema, table), set()).add(column)
    return found


def _lacking(grants: Iterable[Grant], columns: Set[str]) -> list[str]:
    """The columns that these grants name and the table does not have."""
    named = {column for grant in grants for privilege in grant.taken_apart for column in privilege.columns}
    return sorted(named - columns)


def _check_columns(ours: Sequence[Grant], columns: Columns, app_schema: str) -> None:
    mistakes = [
        f"{schema}.{table} has no {', '.join(names)}"
        for (schema, table), there in sorted(columns.items())
        if (names := _lacking([grant for grant in ours if _place(grant, app_schema) == (schema, table)], there))
    ]
    if mistakes:
        remedy = "make views that have them, and name their schema in APP_SCHEMA (docs/app-tables.md)"
        msg = f"{'; '.join(mistakes)}: {remedy}"
        raise SettingsError(msg)


def _wrong_with(grant: Grant, columns: Columns, app_schema: str) -> str | None:
    """Why a package's grant cannot be applied; None: it can."""
    schema, table = _place(grant, app_schema)
    privileges = f"{', '.join(grant.privileges)} on {schema}.{table} for {login(grant.role)}"
    if is_closed(schema):
        return f"{privileges}: packages get no rights in schema {schema}, which APP_SCHEMA must not name"
    there = columns.get((schema, table))
    if there is None:
        return f"{privileges}: the table does not exist. Make it, and run `taskbell setup` again"
    if lacking := _lacking([grant], there):
        return f"{privileges}: the table has no {', '.join(lacking)}. Add that, and run `taskbell setup` again"
    return None


async def _outbox_policies(connection: AsyncConnection, passwords: Passwords) -> None:
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
