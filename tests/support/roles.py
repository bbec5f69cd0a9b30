"""Logging in as the roles that setup makes: a PostgreSQL role and a RabbitMQ user of the same name."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import asyncpg

PASSWORD = "a pass/word"
"""The same in all tests: a role is the server's, and others may be using it at the same time."""

ROLES = ("scheduler", "notifier", "maintenance", "app", "operator")


def passwords() -> dict[str, str]:
    """The settings by which setup makes all roles and users."""
    return {f"{role.upper()}_{server}_PASSWORD": PASSWORD for role in ROLES for server in ("DATABASE", "BROKER")}


@dataclass(frozen=True)
class Logins:
    """URLs of each role, on servers where setup has made them all."""

    administrator: str
    """The database's."""
    database: Mapping[str, str]
    broker: Mapping[str, str]


@contextlib.asynccontextmanager
async def roles_reserved(administrator_url: str) -> AsyncIterator[None]:
    """Waits until nobody else's test has a say in the roles: they are the servers', not a database's or a vhost's."""
    connection = await asyncpg.connect(administrator_url)
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtextextended('tests of taskbell roles', 0))")
        yield
    finally:
        await connection.close()  # the lock goes with it


def as_user(url: str, name: str, password: str) -> str:
    """The same URL for another user."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{name}:{quote(password, safe='')}@{host}").geturl()
