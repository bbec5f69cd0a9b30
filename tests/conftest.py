"""What every test can ask for. Servers start when the first test asks, and are shared by the whole run.

servers                 ServerUrls: database_url, broker_url, management_url of an administrator
database_url            a database of its own for each test, migrated, with the app's tables
empty_database_url      the same with nothing in it
module_database_url     like database_url, shared by the tests of one module
vhost                   a virtual host of its own for each test, with our topology: (name, url, management)
broker_url, management  its AMQP URL; a client for its management API (tests/support/management.py)
module_vhost, module_broker_url, module_management    the same, shared by the tests of one module
empty_vhost             like vhost, with nothing in it
inbox                   a real SMTP server that keeps what it received (tests/support/inbox.py)
"""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from taskbell_devstack.databases import migrate
from tests.support.databases import database_name, fresh_database
from tests.support.inbox import Inbox
from tests.support.management import Management
from tests.support.servers import Run, ServerUrls, choose
from tests.support.shell import away_from_dot_env, forget_settings
from tests.support.vhosts import Vhost, fresh_vhost

# Here, and not in a fixture: modules of tests and fixtures of every scope come later. Imports read no setting.
forget_settings(os.environ)

# How fast a machine is decides about no test.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

GUARD_LIMIT = 60.0  # seconds for the guard to stop the servers
guard_key = pytest.StashKey[subprocess.Popen[bytes]]()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # pytest-xdist's workers belong to the run of the process above them
        _, config.stash[guard_key] = Run.begin(config.rootpath)


def pytest_unconfigure(config: pytest.Config) -> None:
    guard = config.stash.get(guard_key, None)
    if guard is not None:
        guard.communicate(timeout=GUARD_LIMIT)
        if guard.returncode:
            raise pytest.UsageError("The servers of this run could not be stopped; see above")


def pytest_report_header() -> str:
    return f"servers: {choose(os.environ).sentence}"


@pytest.fixture(scope="session", autouse=True)
def no_dot_env() -> Iterator[None]:
    """No test reads a `.env` that somebody keeps in the checkout."""
    with away_from_dot_env():
        yield


@pytest.fixture(scope="session")
def servers() -> ServerUrls:
    return Run.current().servers()


@pytest_asyncio.fixture(scope="session")
async def template_database(servers: ServerUrls) -> AsyncIterator[str]:
    """The name of the database that others are copied from."""
    async with fresh_database(servers.database_url) as url:
        await migrate(url)
        yield database_name(url)


@pytest_asyncio.fixture
async def database_url(servers: ServerUrls, template_database: str) -> AsyncIterator[str]:
    async with fresh_database(servers.database_url, template=template_database) as url:
        yield url


@pytest_asyncio.fixture(scope="module")
async def module_database_url(servers: ServerUrls, template_database: str) -> AsyncIterator[str]:
    async with fresh_database(servers.database_url, template=template_database) as url:
        yield url


@pytest_asyncio.fixture
async def empty_database_url(servers: ServerUrls) -> AsyncIterator[str]:
    async with fresh_database(servers.database_url) as url:
        yield url


@pytest_asyncio.fixture
async def vhost(servers: ServerUrls) -> AsyncIterator[Vhost]:
    async with fresh_vhost(servers) as vhost:
        yield vhost


@pytest.fixture
def broker_url(vhost: Vhost) -> str:
    return vhost.url


@pytest.fixture
def management(vhost: Vhost) -> Management:
    return vhost.management


@pytest_asyncio.fixture(scope="module")
async def module_vhost(servers: ServerUrls) -> AsyncIterator[Vhost]:
    async with fresh_vhost(servers) as vhost:
        yield vhost


@pytest.fixture(scope="module")
def module_broker_url(module_vhost: Vhost) -> str:
    return module_vhost.url


@pytest.fixture(scope="module")
def module_management(module_vhost: Vhost) -> Management:
    return module_vhost.management


@pytest_asyncio.fixture
async def empty_vhost(servers: ServerUrls) -> AsyncIterator[Vhost]:
    async with fresh_vhost(servers, topology=False) as vhost:
        yield vhost


@pytest_asyncio.fixture
async def inbox() -> AsyncIterator[Inbox]:
    inbox = Inbox()
    await inbox.start()
    try:
        yield inbox
    finally:
        await inbox.stop()
