"""The five roles that `taskbell setup` makes, to log in as each of them.

Databases and virtual hosts are a test's own, but logins are the server's: whoever makes them, or relies on their
passwords, holds them for itself meanwhile.
"""

import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import asyncpg

from tests.support.command import taskbell
from tests.support.databases import fresh_database
from tests.support.servers import ServerUrls
from tests.support.vhosts import Vhost, fresh_vhost

NAMES = ("scheduler", "notifier", "maintenance", "app", "operator")
SERVICES = ("scheduler", "notifier", "maintenance")
SERVERS = ("DATABASE", "BROKER")
PASSWORD = "a password / of the tests"


@dataclass(frozen=True)
class Roles:
    """A database and a virtual host on which `taskbell setup` has made all roles."""

    admin_url: str
    """The database, as its owner."""
    vhost: Vhost
    app_schema: str

    def database_url(self, role: str) -> str:
        """The database, as that role."""
        return as_user(self.admin_url, f"taskbell_{role}", PASSWORD)

    def broker_url(self, role: str) -> str:
        """The virtual host, as that role."""
        return as_user(self.vhost.url, f"taskbell_{role}", PASSWORD)

    async def set_up(self, *arguments: str, python: str = sys.executable, **settings: str) -> str:
        """Runs `taskbell setup` with a password for each role on both servers; returns what it said."""
        passwords = {
            f"{name.upper()}_{server}_PASSWORD": PASSWORD for name in NAMES for server in ("DATABASE", "BROKER")
        }
        done = await taskbell(
            "setup",
            "--with-app-tables",
            *arguments,
            python=python,
            DATABASE_URL=self.admin_url,
            BROKER_URL=self.vhost.url,
            BROKER_MANAGEMENT_URL=self.vhost.management.url,
            APP_SCHEMA=self.app_schema,
            **passwords,
            **settings,
        )
        assert done.status == 0, done.err
        return done.out


@contextlib.asynccontextmanager
async def sole_use_of_logins(servers: ServerUrls) -> AsyncIterator[None]:
    """Nobody else who asks for it changes or uses the servers' roles and users until the block ends.

    The lock lies in the administrator's database, because PostgreSQL's advisory locks are each database's own.
    """
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtextextended('logins of taskbell tests', 0))")
        yield
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def all_roles(servers: ServerUrls, app_schema: str = "public") -> AsyncIterator[Roles]:
    """All roles, on a new database and a new virtual host."""
    async with (
        sole_use_of_logins(servers),
        fresh_database(servers.database_url) as admin_url,
        fresh_vhost(servers) as vhost,
    ):
        roles = Roles(admin_url, vhost, app_schema)
        await roles.set_up()
        yield roles


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to that database."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def allows(connection: asyncpg.Connection, statement: str) -> bool:
    """Whether PostgreSQL lets this user run the statement; whatever it did is undone.

    Only a refused permission counts as a denial, also row-level security's. Any other error is raised: a statement
    that failed for another reason has shown nothing.
    """
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return False
    finally:
        await transaction.rollback()
    return True


def as_user(url: str, name: str, password: str) -> str:
    """The URL with another login."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{name}:{quote(password, safe='')}@{host}").geturl()
