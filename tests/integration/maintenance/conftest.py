"""A database of each test's own, with the app's tables and the use cases on them."""

from collections.abc import AsyncIterator

import pytest_asyncio
from tests.integration.maintenance.use_cases import Maintenance, open_maintenance


@pytest_asyncio.fixture
async def maintenance(database_url: str) -> AsyncIterator[Maintenance]:
    async with open_maintenance(database_url) as maintenance:
        yield maintenance
