"""Reads and revokes the rights of a PostgreSQL role on schemas and tables."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from taskbell.database import quoted


class Right(NamedTuple):
    """A privilege on a schema, on a table, or on one of its columns."""

    schema: str
    table: str
    """Empty: the right is on the schema itself."""
    privilege: str
    column: str
    """Empty: the right is on the whole table."""


# An owner's rights are not grants, so they are left out. Every name has its schema, because setup is an administrator:
# it must not call functions that others made in schema public.
_RIGHTS = """
    WITH role AS (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = :name),
    relation AS (
        SELECT n.nspname, c.oid, c.relname, c.relacl FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace, role
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relowner <> role.oid
            AND n.nspname <> 'information_schema' AND NOT pg_catalog.starts_with(n.nspname::text, 'pg_')
    )
    SELECT r.nspname, r.relname, acl.privilege_type, ''
    FROM relation AS r, role, pg_catalog.aclexplode(r.relacl) AS acl WHERE acl.grantee = role.oid
    UNION
    SELECT r.nspname, r.relname, acl.privilege_type, a.attname
    FROM relation AS r JOIN pg_catalog.pg_attribute AS a ON a.attrelid = r.oid AND NOT a.attisdropped, role,
        pg_catalog.aclexplode(a.attacl) AS acl WHERE acl.grantee = role.oid
    UNION
    SELECT n.nspname, '', acl.privilege_type, ''
    FROM pg_catalog.pg_namespace AS n, role, pg_catalog.aclexplode(n.nspacl) AS acl
    WHERE acl.grantee = role.oid AND n.nspowner <> role.oid AND NOT pg_catalog.starts_with(n.nspname::text, 'pg_')
"""


async def rights_of(connection: AsyncConnection, name: str) -> set[Right]:
    """What was granted to that role in this database, without grants to PUBLIC. Empty if the role does not exist."""
    return {Right(*row) for row in await connection.execute(text(_RIGHTS), {"name": name})}


async def revoke(connection: AsyncConnection, name: str, rights: Iterable[Right]) -> None:
    """Revokes all rights on these schemas and tables from that role."""
    for schema, table in sorted({(right.schema, right.table) for right in rights}):
        what = f"{quoted(schema)}.{quoted(table)}" if table else f"SCHEMA {quoted(schema)}"
        await connection.exec_driver_sql(f"REVOKE ALL ON {what} FROM {quoted(name)}")


def in_words(rights: Iterable[Right]) -> str:
    """The rights in the words of GRANT: `SELECT (id, name) on public.teams, USAGE on schema timesheets`."""
    return ", ".join(_phrases(sorted(rights)))


def _phrases(rights: list[Right]) -> Iterator[str]:
    for (schema, table), of_table in groupby(rights, key=lambda it: it[:2]):
        privileges = []
        for privilege, those in groupby(of_table, key=lambda it: it.privilege):
            columns = [it.column for it in those]
            privileges.append(f"{privilege} ({', '.join(columns)})" if all(columns) else privilege)
        yield f"{', '.join(privileges)} on {f'{schema}.{table}' if table else f'schema {schema}'}"
