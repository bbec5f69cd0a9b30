"""The maintenance service as one process runs it, inside the test's own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.integration.maintenance.use_cases import settings_for
from tests.support.waiting import eventually

from taskbell.service import Process
from taskbell_maintenance.app import build


@contextlib.asynccontextmanager
async def running(database_url: str, broker_url: str, **given: Any) -> AsyncIterator[Process]:
    """The whole service, ready; stopped and drained at the end."""
    process = Process()
    application = build(settings_for(database_url, broker_url, **given), process)
    stop = asyncio.Event()
    parts = [asyncio.create_task(part.run(stop)) for part in application.parts]
    try:
        await eventually(
            lambda: process.health.ready or any(part.done() for part in parts), what="the service is ready"
        )
        yield process
    finally:
        stop.set()
        await asyncio.gather(*parts)
        for close in application.close:
            await close()
