"""docs/faststream.md shows an app, an extension and a test: they are what runs here."""

import importlib.util
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from faststream.rabbit import RabbitBroker, TestRabbitBroker
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taskbell.contracts import TaskStatusChanged
from taskbell.extensions import Installed
from taskbell.extensions.checks import mistakes_in

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "faststream.md").read_text()
APP = ROOT / "examples" / "faststream" / "app.py"
IMPORTS = """
from faststream.rabbit import TestRabbitBroker
from taskbell.contracts import TaskStatusChanged
"""


def shown(comment: str) -> str:
    """The code behind that comment."""
    found = re.search(rf"<!-- {re.escape(comment)} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, comment
    return found[1]


def loaded(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"shown_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def timesheets() -> Callable[[AsyncEngine], Any]:
    return loaded(APP).timesheets  # type: ignore[no-any-return]


@pytest_asyncio.fixture
async def engine(empty_database_url: str) -> AsyncIterator[AsyncEngine]:
    table = re.search(r"CREATE TABLE timesheets\.handled_message \(.*?\n  \);", PAGE, re.DOTALL)
    assert table is not None
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(
        f"CREATE SCHEMA timesheets; CREATE TABLE timesheets.entry (task_id bigint); {table[0]}"
        "INSERT INTO timesheets.entry SELECT generate_series(1, 98)"
    )
    await connection.close()
    engine = create_async_engine(empty_database_url.replace("postgresql://", "postgresql+asyncpg://"))
    yield engine
    await engine.dispose()


def test_the_page_shows_the_app_that_is_tested() -> None:
    assert shown("examples/faststream/app.py") == APP.read_text()


def test_the_extension_that_the_page_shows_is_a_good_one() -> None:
    offered: dict[str, Any] = {}
    exec(shown("the extension"), offered)
    assert list(mistakes_in([Installed("acme-timesheets", offered["extension"])])) == []


async def test_it_runs_as_the_page_tests_it(
    timesheets: Callable[[AsyncEngine], Any], engine: AsyncEngine, tmp_path: Path
) -> None:
    lines = "".join(f"    {line}\n" for line in shown("a test").splitlines())
    # FastStream looks into the source of the block that its test broker surrounds.
    test = tmp_path / "shown.py"
    test.write_text(f"{IMPORTS}\nasync def shown(taskbell, broker):\n{lines}")
    await loaded(test).shown(timesheets(engine), RabbitBroker(logger=None))
    async with engine.connect() as connection:
        found = await connection.exec_driver_sql("SELECT max(task_id), count(*) FROM timesheets.entry")
        assert tuple(found.one()) == (98, 99)


async def test_each_hundredth_task_asks_for_a_report_and_a_repeated_one_does_not(
    timesheets: Callable[[AsyncEngine], Any], engine: AsyncEngine
) -> None:
    taskbell, broker = timesheets(engine), RabbitBroker(logger=None)
    broker.include_router(taskbell)
    (report,) = (it for it in taskbell.publishers if it.routing_key == "maintenance.generate_task_report")

    async def done(task: int, message_id: str) -> None:
        body = TaskStatusChanged(task_id=task, old_status="pending", new_status="done", requested_by=None)
        await broker.publish(
            body.to_bytes(), exchange="taskbell.events", routing_key="task.status_changed", message_id=message_id
        )

    async with TestRabbitBroker(broker):
        await done(99, "m-99")
        report.mock.assert_not_called()
        await done(100, "m-100")
        report.mock.assert_called_once()
        await done(100, "m-100")
        report.mock.assert_called_once()
