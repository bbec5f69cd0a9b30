"""A database for each test, and the parts of a notifier."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from tests.integration.notifier.ledger.notifier_parts import NotifierParts
from tests.integration.notifier.ledger.support import NotifierTables, settings_for
from tests.support.kinds import KINDS
from tests.support.scripted_smtp import ScriptedSmtp
from tests.support.stranger import stranger_on

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
async def stranger(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A login without any grant."""
    async with stranger_on(database_url) as connection:
        yield connection


@pytest_asyncio.fixture
async def tables(database: Database) -> NotifierTables:
    return NotifierTables(database)


@pytest.fixture(scope="session")
def renderer() -> Renderer:
    return Renderer(KINDS, Links("https://app.example.org"))


@pytest_asyncio.fixture
async def make_parts(database: Database, renderer: Renderer) -> AsyncIterator[Callable[..., NotifierParts]]:
    """Makes parts of a notifier, and closes them after the test."""
    made: list[NotifierParts] = []

    def make(**settings: Any) -> NotifierParts:
        made.append(NotifierParts(database, renderer, **settings))
        return made[-1]

    yield make
    for parts in made:
        await parts.close()


@pytest_asyncio.fixture
async def parts(make_parts: Callable[..., NotifierParts]) -> NotifierParts:
    return make_parts()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedSmtp]:
    async with ScriptedSmtp() as running:
        yield running
