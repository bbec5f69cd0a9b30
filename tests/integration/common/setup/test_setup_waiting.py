"""Setup names whom it waits for, and gives up in time: whoever may connect can hold an advisory lock."""

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from tests.support.command import taskbell
from tests.support.stranger import login_without_grants


@pytest_asyncio.fixture
async def stranger_url(database_url: str) -> AsyncIterator[str]:
    async with login_without_grants(database_url) as url:
        yield url


async def test_a_stranger_who_holds_its_lock_is_named_and_setup_gives_up(
    stranger_url: str, database_url: str, broker_url: str
) -> None:
    stranger = await asyncpg.connect(stranger_url, server_settings={"application_name": "a report"})
    await stranger.execute("SELECT pg_advisory_lock(hashtextextended('taskbell setup', 0))")
    began = time.monotonic()
    done = await taskbell("setup", "--wait", "1", DATABASE_URL=database_url, BROKER_URL=broker_url)
    took = time.monotonic() - began
    pid = stranger.get_server_pid()
    await stranger.close()
    assert done.status == 1
    assert took < 30
    by = f"process {pid} (role {urlsplit(stranger_url).username}, application_name a report)"
    assert f"waiting: PostgreSQL: a lock that setup needs is held by {by}" in done.err
    assert done.err.splitlines()[-1] == f"taskbell: PostgreSQL: setup did not get a lock in time; it is held by {by}"
    again = await taskbell("setup", "--wait", "1", DATABASE_URL=database_url, BROKER_URL=broker_url)
    assert again.status == 0, again.err


@pytest.mark.usefixtures("sole_logins")
async def test_a_transaction_that_uses_a_table_is_named(database_url: str, broker_url: str) -> None:
    given = {"DATABASE_URL": database_url, "BROKER_URL": broker_url, "MAINTENANCE_DATABASE_PASSWORD": "secret"}
    importer = await asyncpg.connect(database_url, server_settings={"application_name": "an import"})
    async with importer.transaction():
        await importer.execute("SELECT taskbell.enqueue('weekly.due', '{}', 'm1')")
        done = await taskbell("setup", "--wait", "0", **given)
    assert done.status == 1
    last = done.err.splitlines()[-1]
    assert "an open transaction uses taskbell.outbox" in last
    assert f"process {importer.get_server_pid()}" in last
    assert "application_name an import" in last
    await importer.close()


async def test_setups_at_once_take_turns(empty_database_url: str, broker_url: str) -> None:
    given = {"DATABASE_URL": empty_database_url, "BROKER_URL": broker_url}
    for done in await asyncio.gather(*(taskbell("setup", **given) for _ in range(2))):
        assert done.status == 0, done.err
