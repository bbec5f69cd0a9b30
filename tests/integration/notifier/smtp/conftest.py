"""An SMTP pool and a scripted server for each test, on real sockets."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.notifier.smtp.pool_harness import PROMPT_WAITS, Notes, OpenHarness, PoolHarness
from tests.support.scripted_smtp import Certificate, ScriptedSmtp

from taskbell.clock import SystemClock
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.smtp.settings import SmtpSettings


@pytest_asyncio.fixture
async def open_harness() -> AsyncIterator[OpenHarness]:
    """Makes pools with what belongs to them, and closes them after the test."""
    async with AsyncExitStack() as stack:

        @asynccontextmanager
        async def harness(server: ScriptedSmtp, /, **settings: Any) -> AsyncIterator[PoolHarness]:
            notes = Notes()
            wanted: dict[str, Any] = {
                "server": "127.0.0.1",
                "port": server.port,
                "local_hostname": "tests.example.org",
            } | settings
            pool = SmtpPool(SmtpSettings(**wanted), SystemClock(), observer=notes, waits=PROMPT_WAITS)
            try:
                yield PoolHarness(pool, server, notes)
            finally:
                server.clear()
                await pool.close(0)

        async def enter(server: ScriptedSmtp, /, **settings: Any) -> PoolHarness:
            return await stack.enter_async_context(harness(server, **settings))

        yield enter


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedSmtp]:
    async with ScriptedSmtp() as running:
        yield running


@pytest_asyncio.fixture
async def harness(server: ScriptedSmtp, open_harness: OpenHarness) -> PoolHarness:
    """A pool with one session at a time, so that tests know which mail goes over which session."""
    return await open_harness(server, pool_size=1)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(Path(tmp_path_factory.mktemp("certificate")))
