"""A database of each test's own, with people in it, and the rooms of a notifier."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.notifier.ledger.house import Town, settings_for
from tests.integration.notifier.ledger.rooms import Rooms
from tests.support.scripted_smtp import ScriptedSmtp

from taskbell.database import Database
from taskbell_notifier.mail.links import Links
from taskbell_notifier.mail.render import Renderer


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database.connect(settings_for(database_url), name="tests")
    try:
        yield database
    finally:
        await database.close()


@pytest_asyncio.fixture
async def town(database: Database) -> Town:
    return Town(database)


@pytest.fixture(scope="session")
def renderer() -> Renderer:
    return Renderer(Links("https://app.example.org"))


@pytest_asyncio.fixture
async def make_rooms(database: Database, renderer: Renderer) -> AsyncIterator[Callable[..., Rooms]]:
    """What it makes is closed after the test."""
    made: list[Rooms] = []

    def make(**settings: Any) -> Rooms:
        made.append(Rooms(database, renderer, **settings))
        return made[-1]

    yield make
    for rooms in made:
        await rooms.close()


@pytest_asyncio.fixture
async def rooms(make_rooms: Callable[..., Rooms]) -> Rooms:
    return make_rooms()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedSmtp]:
    async with ScriptedSmtp() as running:
        yield running
