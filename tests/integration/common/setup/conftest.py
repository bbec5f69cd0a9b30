"""The servers' logins, held for one test or for the tests of one module."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from tests.integration.common.setup.package_installation import ACME, Installation, drop
from tests.support.packages import TIMESHEETS, packages_in
from tests.support.roles import Roles, all_roles, sole_use_of_logins
from tests.support.servers import ServerUrls
from tests.support.vhosts import Vhost


@pytest_asyncio.fixture
async def sole_logins(servers: ServerUrls) -> AsyncIterator[None]:
    """No other test has to do with the servers' logins meanwhile."""
    async with sole_use_of_logins(servers):
        yield


@pytest_asyncio.fixture(scope="module")
async def roles(servers: ServerUrls) -> AsyncIterator[Roles]:
    """All roles, on a database and a virtual host of the module's own.

    The app's schema is not public, on which everybody has rights that no grant of ours gave.
    """
    async with all_roles(servers, app_schema="The App") as roles:
        yield roles


@pytest_asyncio.fixture
async def installation(
    servers: ServerUrls, database_url: str, vhost: Vhost, tmp_path: Path
) -> AsyncIterator[Installation]:
    """With the package's tables. What is a server's own, its role and user, is gone at the end."""
    with packages_in(tmp_path / "site") as packages:
        packages.install(ACME, TIMESHEETS)
        async with sole_use_of_logins(servers):
            installation = Installation(database_url, vhost, packages)
            await installation.execute("""
                CREATE TABLE public.teams (id bigint, name text, secret text);
                CREATE SCHEMA timesheets;
                CREATE TABLE timesheets.entry (id bigint, hours int, approved boolean);
                INSERT INTO timesheets.entry VALUES (1, 8, false)
            """)
            try:
                yield installation
            finally:
                await drop(installation)
