"""A database with a broker: outbox and commands need both."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.common.database.conftest import connected
from tests.integration.common.outbox.relay_harness import RelayHarness
from tests.integration.common.outbox.test_commands import CommandRunner

from taskbell.database import Database
from taskbell.messaging.publishing.publisher import Publisher
from taskbell.outbox import Owner


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = connected(database_url, database_pool_size=8)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def open_harness(database: Database, broker_url: str) -> AsyncIterator[Callable[..., RelayHarness]]:
    """Opens a harness, by default on the test's own virtual host, and closes it at the end."""
    opened_harnesses: list[RelayHarness] = []

    def open_(url: str = broker_url, owner: Owner = "maintenance", **more: Any) -> RelayHarness:
        opened_harnesses.append(RelayHarness(database, url, owner, **more))
        return opened_harnesses[-1]

    yield open_
    for harness in opened_harnesses:
        await harness.close()


@pytest.fixture
def harness(open_harness: Callable[..., RelayHarness]) -> RelayHarness:
    return open_harness()


@pytest_asyncio.fixture
async def runner(database: Database, module_broker_url: str) -> AsyncIterator[CommandRunner]:
    runner = CommandRunner(database, Publisher(module_broker_url, name="test replies", timeout=2))
    yield runner
    await runner.replies.close()
