"""Services as processes. Tests assert on inbox, database and queues only, as anybody could from outside."""

from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest
import pytest_asyncio
from tests.support.inbox import Inbox
from tests.support.installation import Installation
from tests.support.vhosts import Vhost


@pytest_asyncio.fixture(scope="module")
async def running_installation(module_database_url: str, module_vhost: Vhost) -> AsyncIterator[Installation]:
    """An installation whose notifier and maintenance run as long as the module's tests do."""
    inbox = Inbox()
    await inbox.start()
    installation = Installation(module_database_url, module_vhost, inbox)
    try:
        await installation.start("notifier", "maintenance")
        yield installation
    finally:
        await installation.stop()
        await inbox.stop()


@pytest_asyncio.fixture
async def installation(running_installation: Installation) -> Installation:
    """The running installation, emptied; everything that was under way in it before has ended."""
    running_installation.check_running()
    await running_installation.clear()
    return running_installation


@pytest_asyncio.fixture
async def empty_installation(database_url: str, vhost: Vhost, inbox: Inbox) -> AsyncIterator[Installation]:
    """An installation for one test, in which nothing runs yet."""
    installation = Installation(database_url, vhost, inbox)
    try:
        yield installation
    finally:
        await installation.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Show what the services said when a test has failed."""
    result = yield
    report = result.get_result()
    arguments = getattr(item, "funcargs", {})
    installation = arguments.get("installation") or arguments.get("empty_installation")
    if report.failed and isinstance(installation, Installation):
        report.sections += [(f"the {name}'s log", installation.log(name)) for name in sorted(installation.running)]
