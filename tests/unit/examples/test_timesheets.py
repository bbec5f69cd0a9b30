"""The timesheets example, with FastStream's test broker and a store that keeps what its handlers write."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue, TestRabbitBroker
from sqlalchemy import TextClause
from tests.support.packages import packages_in
from typer.testing import CliRunner

from taskbell.cli.packages import COMMANDS, offers
from taskbell.contracts import TaskStatusChanged
from taskbell.errors import InvalidMessage
from taskbell.extensions import installed
from taskbell.faststream import HandledInMemory, TaskbellRouter

EXAMPLE = Path(__file__).parents[3] / "examples" / "timesheets"
EVENTS = RabbitExchange("taskbell.events", ExchangeType.TOPIC)
HOURS_LOGGED = RabbitQueue("payroll.hours_logged", routing_key="hours.logged")
LOGGED = {"task_id": 7, "hours": 1.5, "note": "call"}


class Written(HandledInMemory):
    """It keeps the statements that the handlers execute, with their parameters; it may be told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.statements: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None

    async def execute(self, statement: TextClause, parameters: dict[str, Any]) -> None:
        if self.error is not None:
            raise self.error
        self.statements.append((statement.text.partition(" (")[0].partition(" SET")[0], parameters))


class App:
    """The example's router on a test broker, and a listener to its event."""

    def __init__(self, timesheets: Any) -> None:
        self.written = Written()
        self.broker = RabbitBroker(logger=None)
        self.router: TaskbellRouter = timesheets(self.written)
        self.events: list[RabbitMessage] = []

        async def decode(message: Any) -> Any:
            return message

        @self.broker.subscriber(HOURS_LOGGED, EVENTS, decoder=decode, no_reply=True)
        async def keep(message: RabbitMessage) -> None:
            self.events.append(message)

        self.broker.include_router(self.router)

    async def log_hours(self, body: bytes, message_id: str = "m-1") -> None:
        await self.broker.publish(
            body,
            exchange="taskbell.commands",
            routing_key="timesheets.log_hours",
            message_id=message_id,
            correlation_id="c-1",
        )

    async def status_changed(self, status: str) -> None:
        event = TaskStatusChanged(task_id=7, old_status="pending", new_status=status, requested_by=None)
        await self.broker.publish(event.to_bytes(), exchange="taskbell.events", routing_key="task.status_changed")


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    with packages_in(tmp_path / "site") as packages:
        packages.install_project(EXAMPLE)
        from taskbell_timesheets.handlers import timesheets  # type: ignore[import-not-found]

        app = App(timesheets)
        async with TestRabbitBroker(app.broker):
            yield app


async def test_hours_are_written_and_told(app: App) -> None:
    await app.log_hours(b'{"task_id": 7, "hours": 1.5, "note": "call"}')
    assert app.written.statements == [("INSERT INTO timesheets.entry", LOGGED)]
    (event,) = app.events
    assert json.loads(event.body) == LOGGED
    assert (event.message_id, event.correlation_id) == ("m-1.logged", "c-1")


async def test_a_repeated_command_logs_hours_once(app: App) -> None:
    for message_id in ("m-1", "m-2", "m-1"):
        await app.log_hours(b'{"task_id": 7, "hours": 1}', message_id)
    assert [event.message_id for event in app.events] == ["m-1.logged", "m-2.logged"]
    assert len(app.written.statements) == 2


@pytest.mark.parametrize("hours", ["0", "24.25", "0.3", '"1"'])
async def test_hours_that_nobody_can_have_worked_are_dead_at_once(app: App, hours: str) -> None:
    with pytest.raises(InvalidMessage, match="hours: "):
        await app.log_hours(f'{{"task_id": 7, "hours": {hours}}}'.encode())
    app.router.dead.mock.assert_called_once()
    assert (app.written.statements, app.events) == ([], [])


async def test_hours_that_could_not_be_written_are_tried_again_and_not_told(app: App) -> None:
    app.written.error = ValueError("bad luck")
    with pytest.raises(ValueError, match="bad luck"):
        await app.log_hours(b'{"task_id": 7, "hours": 1}')
    app.router.retries[0].mock.assert_called_once()
    app.router.dead.mock.assert_not_called()
    assert app.events == []


async def test_the_hours_of_a_task_are_to_be_billed_once_it_is_done(app: App) -> None:
    await app.status_changed("in_progress")
    assert app.written.statements == []
    await app.status_changed("done")
    assert app.written.statements == [("UPDATE timesheets.entry", {"task_id": 7})]


def test_the_package_offers_its_extension_and_its_tables(tmp_path: Path) -> None:
    with packages_in(tmp_path / "site") as packages:
        packages.install_project(EXAMPLE)
        (package,) = installed()
        assert (package.package, package.services) == ("taskbell-timesheets", ("timesheets",))
        printed = CliRunner().invoke(offers(COMMANDS)["timesheets"].load(), ["tables"])
    made = set(re.findall(r"CREATE TABLE (\S+)", printed.output))
    assert made == {grant.table for grant in package.extension.grants}


def test_it_takes_less_than_150_lines_of_python() -> None:
    lines = [line for file in EXAMPLE.rglob("*.py") for line in file.read_text().splitlines()]
    assert 0 < len(lines) < 150
