"""What tests of this folder can ask for, besides what every test can (tests/conftest.py).

plan         the size of this run: `plan.pick(quick=…, full=…)`
seed         a number to start random choices from; a test that asks for it is run once a round
own_servers  a PostgreSQL and a RabbitMQ that a test may kill (tests/chaos/support/own_servers.py)
figures      `figures.note(row, what, value, at_most=…)`: printed at the end beside its bound
"""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import astuple
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chaos.support.figures import Figure, Figures
from tests.chaos.support.own_servers import OwnServers, start_own_servers
from tests.chaos.support.plan import Plan

# Workers of pytest-xdist inherit the seed that was drawn here.
PLAN = Plan.of(os.environ)
os.environ["SEED"] = str(PLAN.seed)
PROPERTY = "chaos figure"
LONGEST = ("test_kills.py", "test_outages.py", "test_stalls.py")


def pytest_report_header() -> str:
    return str(PLAN)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", PLAN.seeds)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest tests begin first, each on its own worker: begun last, they would keep one worker busy alone.

    Tests marked `full` take half a minute or more at any size; a quick run leaves them out.
    """
    if not PLAN.full:
        left_out = [item for item in items if item.get_closest_marker("full")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    ours = Path(__file__).parent
    rank = {ours / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session")
def plan() -> Plan:
    return PLAN


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """The figures travel with the test's report, which a worker of pytest-xdist also sends to the main process."""
    figures = Figures()
    yield figures
    request.node.user_properties.extend((PROPERTY, list(astuple(figure))) for figure in figures.taken)


@pytest_asyncio.fixture(scope="module")
async def own_servers() -> AsyncIterator[OwnServers]:
    async with start_own_servers() as own_servers:
        yield own_servers


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for found in terminalreporter.stats.values() for report in found]
    taken = [
        Figure(*value)
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "teardown"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if taken:
        terminalreporter.section(str(PLAN))
        for figure in taken:
            terminalreporter.line(str(figure))
