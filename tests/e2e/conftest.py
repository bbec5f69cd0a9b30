"""Services as processes. Tests assert on inbox, database and queues only, as anybody could from outside."""

from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest
import pytest_asyncio
from tests.support.house import House
from tests.support.inbox import Inbox
from tests.support.vhosts import Vhost


@pytest_asyncio.fixture(scope="module")
async def running_house(module_database_url: str, module_vhost: Vhost) -> AsyncIterator[House]:
    """A house whose notifier and maintenance run as long as the module's tests do."""
    inbox = Inbox()
    await inbox.start()
    house = House(module_database_url, module_vhost, inbox)
    try:
        await house.start("notifier", "maintenance")
        yield house
    finally:
        await house.stop()
        await inbox.stop()


@pytest_asyncio.fixture
async def house(running_house: House) -> House:
    """The running house, empty; everything that was going on in it before is over."""
    running_house.check_running()
    await running_house.clear()
    return running_house


@pytest_asyncio.fixture
async def empty_house(database_url: str, vhost: Vhost, inbox: Inbox) -> AsyncIterator[House]:
    """A house of the test's own, in which nothing runs yet."""
    house = House(database_url, vhost, inbox)
    try:
        yield house
    finally:
        await house.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Show what the services said when a test has failed."""
    result = yield
    report = result.get_result()
    arguments = getattr(item, "funcargs", {})
    house = arguments.get("house") or arguments.get("empty_house")
    if report.failed and isinstance(house, House):
        report.sections += [(f"the {name}'s log", house.log(name)) for name in sorted(house.running)]
