"""Marks the PostgreSQL roles of packages' services as made by setup, and takes their rights when nobody needs them.

A role belongs to all databases of a server, so setup revokes its rights in this database but does not drop it.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from taskbell.extensions import Installed, installed
from taskbell.setup.privileges import ROLES, Passwords, login
from taskbell.setup.report import SetupReport
from taskbell.setup.rights import in_words, revoke, rights_of

MARK = "Made by taskbell setup for package "
"""The beginning of such a role's comment. Setup does not touch other roles, even if they are named taskbell_…."""

_MARKED = """
    SELECT r.rolname, d.description FROM pg_catalog.pg_roles AS r
    JOIN pg_catalog.pg_shdescription AS d
        ON d.objoid = r.oid AND d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass
    WHERE pg_catalog.starts_with(r.rolname::text, 'taskbell_') AND pg_catalog.starts_with(d.description, :mark)
    ORDER BY r.rolname
"""

# dbid 0 means an object that all databases share.
_USED_ELSEWHERE = """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_shdepend AS d
        JOIN pg_catalog.pg_roles AS r ON r.oid = d.refobjid
        JOIN pg_catalog.pg_database AS here ON here.datname = pg_catalog.current_database()
        WHERE r.rolname = :name AND d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
            AND d.dbid <> 0 AND d.dbid <> here.oid
    )
"""


async def without_foreign(
    connection: AsyncConnection, passwords: Passwords, granted: Sequence[Installed]
) -> tuple[Passwords, SetupReport]:
    """Leaves out the services of packages whose role exists and was not made by setup: it is somebody else's login."""
    ours = {login(role) for role in ROLES} | set(await _marked(connection))
    existing = set(await connection.scalars(text("SELECT rolname FROM pg_catalog.pg_roles")))
    foreign = [role for role in passwords if login(role) in existing - ours]
    left_out = [
        f"PostgreSQL role {login(role)} for package {package.package}: there is one that setup has not made. If it is "
        f"the package's, say so: COMMENT ON ROLE {login(role)} IS '{MARK}{package.package}'"
        for package in granted
        for role in package.services
        if role in foreign
    ]
    return {role: it for role, it in passwords.items() if role not in foreign}, SetupReport((), left_out)


async def _marked(connection: AsyncConnection) -> dict[str, str]:
    """The roles that setup has made for packages, and for which."""
    rows = await connection.execute(text(_MARKED), {"mark": MARK})
    return {row.rolname: row.description.removeprefix(MARK) for row in rows}


async def mark(connection: AsyncConnection, role: str, granted: Sequence[Installed]) -> None:
    """Records the package in the comment of the role of its service; does nothing for our own roles."""
    for package in granted:
        if role in package.services:
            # DDL takes no parameters, so PostgreSQL itself quotes the text.
            statement = await connection.scalar(
                text("SELECT pg_catalog.format('COMMENT ON ROLE %I IS %L', CAST(:name AS text), CAST(:words AS text))"),
                {"name": login(role), "words": f"{MARK}{package.package}"},
            )
            await connection.exec_driver_sql(statement)


async def retire(connection: AsyncConnection, granted: Sequence[Installed]) -> SetupReport:
    """Revokes all rights in this database from the roles of packages that were removed or are no longer granted."""
    needed = {login(service) for package in granted for service in package.services}
    known = {login(service) for package in installed() for service in package.services}
    taken, left_over = [], []
    for name, package in (await _marked(connection)).items():
        if name in needed:
            continue
        why = "not granted" if name in known else "not installed"
        if rights := await rights_of(connection, name):
            await revoke(connection, name, rights)
            taken.append(f"PostgreSQL: took {in_words(rights)} from {name}: package {package} is {why}")
        if name not in known and not await connection.scalar(text(_USED_ELSEWHERE), {"name": name}):
            left_over.append(
                f"PostgreSQL role {name} of package {package}, which is not installed: DROP ROLE {name} removes it, "
                "once it owns nothing"
            )
    return SetupReport(taken, (), left_over)
