"""Roles and users belong to whole servers: tests of them take turns."""

from collections.abc import AsyncIterator

import pytest_asyncio
from tests.support.command import taskbell
from tests.support.roles import PASSWORD, ROLES, Logins, as_user, passwords, roles_reserved
from tests.support.servers import ServerUrls
from tests.support.vhosts import Vhost


@pytest_asyncio.fixture
async def roles_of_our_own(servers: ServerUrls) -> AsyncIterator[None]:
    async with roles_reserved(servers.database_url):
        yield


@pytest_asyncio.fixture(scope="module")
async def logins(servers: ServerUrls, module_database_url: str, module_vhost: Vhost) -> AsyncIterator[Logins]:
    """All roles, made by the command, and nobody else's until the module's last test."""
    async with roles_reserved(servers.database_url):
        done = await taskbell(
            "setup",
            DATABASE_URL=module_database_url,
            BROKER_URL=module_vhost.url,
            BROKER_MANAGEMENT_URL=module_vhost.management.url,
            **passwords(),
        )
        assert done.status == 0, done.err
        yield Logins(
            module_database_url,
            {role: as_user(module_database_url, f"taskbell_{role}", PASSWORD) for role in ROLES},
            {role: as_user(module_vhost.url, f"taskbell_{role}", PASSWORD) for role in ROLES},
        )
