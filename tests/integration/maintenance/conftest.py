"""A database of each test's own, with the app's tables and the use cases on them."""

from collections.abc import AsyncIterator

import pytest_asyncio
from tests.integration.maintenance.shop import Shop, open_shop


@pytest_asyncio.fixture
async def shop(database_url: str) -> AsyncIterator[Shop]:
    async with open_shop(database_url) as shop:
        yield shop
