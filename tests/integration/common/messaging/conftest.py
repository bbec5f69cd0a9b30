"""A rig on the module's virtual host, or on one of the test's own."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
import structlog
from tests.integration.common.messaging.rig import DEAD, QUEUE, Recorder, Rig
from tests.support.management import Management
from tests.support.vhosts import Vhost


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> Iterator[None]:
    """Unconfigured, structlog draws each traceback with all local variables."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest_asyncio.fixture
async def rig(module_vhost: Vhost, module_management: Management) -> AsyncIterator[Rig]:
    """Its queues are empty; afterwards nothing of it is left, neither task nor message."""
    for queue in (QUEUE, DEAD, "taskbell.retry.10s", "taskbell.retry.1m", "taskbell.retry.10m"):
        await module_management.call("DELETE", f"/queues/{{vhost}}/{queue}/contents")
    before = asyncio.all_tasks()
    rig = Rig(module_vhost.url, module_management)
    yield rig
    await rig.close()
    await _tasks_end(before)
    assert await rig.ready_in(QUEUE) == 0, "messages were left behind"


@pytest_asyncio.fixture
async def own_rig(vhost: Vhost) -> AsyncIterator[Rig]:
    """For tests that take queues away."""
    before = asyncio.all_tasks()
    rig = Rig(vhost.url, vhost.management)
    yield rig
    await rig.close()
    await _tasks_end(before)


async def _tasks_end(before: "set[asyncio.Task[object]]") -> None:
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=5)
    assert [task for task in left if not task.done()] == [], "tasks were left behind"


@pytest_asyncio.fixture
async def recorder() -> Recorder:
    return Recorder()
