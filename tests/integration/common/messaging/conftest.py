"""Consumers on the module's virtual host, or on one for a single test."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
import structlog
from tests.integration.common.messaging.harness import DEAD, QUEUE, ConsumingHarness, Recorder
from tests.support.management import Management
from tests.support.vhosts import Vhost


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keeps logs quiet: without configuration, structlog prints each traceback with all local variables.

    For each test and not for the session: other tests of the same process look at what is logged.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest_asyncio.fixture
async def harness(module_vhost: Vhost, module_management: Management) -> AsyncIterator[ConsumingHarness]:
    """A harness with empty queues; fails if it leaves a task or a message behind."""
    for queue in (QUEUE, DEAD, "taskbell.retry.10s", "taskbell.retry.1m", "taskbell.retry.10m"):
        await module_management.call("DELETE", f"/queues/{{vhost}}/{queue}/contents")
    before = asyncio.all_tasks()
    harness = ConsumingHarness(module_vhost.url, module_management)
    yield harness
    await harness.close()
    await _tasks_end(before)
    assert await harness.ready_in(QUEUE) == 0, "messages were left behind"


@pytest_asyncio.fixture
async def own_harness(vhost: Vhost) -> AsyncIterator[ConsumingHarness]:
    """A harness on a virtual host of its own, for tests that remove queues."""
    before = asyncio.all_tasks()
    harness = ConsumingHarness(vhost.url, vhost.management)
    yield harness
    await harness.close()
    await _tasks_end(before)


async def _tasks_end(before: "set[asyncio.Task[object]]") -> None:
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=5)
    assert [task for task in left if not task.done()] == [], "tasks were left behind"


@pytest_asyncio.fixture
async def recorder() -> Recorder:
    return Recorder()
