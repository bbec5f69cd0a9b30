"""The servers' logins, held for one test or for the tests of one module."""

from collections.abc import AsyncIterator

import pytest_asyncio
from tests.support.roles import Roles, all_roles, sole_use_of_logins
from tests.support.servers import ServerUrls


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
