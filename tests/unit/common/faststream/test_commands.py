"""Commands of an app's own: the outcome goes to whoever asked, of a repeated one the outcome that was kept."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from faststream.rabbit import RabbitBroker, RabbitMessage, TestRabbitBroker
from tests.support.packages import TIMESHEETS, packages_in

from taskbell.errors import InvalidMessage, Never
from taskbell.faststream import HandledInMemory, TaskbellRouter
from taskbell.outcomes import Outcome


class App:
    """One that approves entries."""

    def __init__(self, approve: Any) -> None:
        self.approved: list[int] = []
        self.replies: list[dict[str, Any]] = []
        self.broker = RabbitBroker(logger=None)
        router = TaskbellRouter("timesheets", handled=HandledInMemory())

        @router.consumes(approve)
        async def handle(command: approve) -> Outcome:
            if command.entry_id == 13:
                raise Never("no entry 13")
            self.approved.append(command.entry_id)
            return Outcome.done(count=len(self.approved))

        @self.broker.subscriber("reply.test")
        async def keep(message: RabbitMessage) -> None:
            self.replies.append({"correlation_id": message.correlation_id} | json.loads(message.body))

        # FastStream's own stand-in for it would answer the command, too.
        @self.broker.subscriber("timesheets.dead", "taskbell.dead", no_reply=True)
        async def dead(body: Any) -> None: ...

        self.broker.include_router(router)

    async def receive(self, body: str, message_id: str = "m-1", reply_to: str = "reply.test") -> None:
        await self.broker.publish(
            body.encode(),
            exchange="taskbell.commands",
            routing_key="timesheets.approve",
            message_id=message_id,
            correlation_id="c-1",
            reply_to=reply_to,
        )


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    with packages_in(tmp_path / "site") as packages:
        packages.install("acme-timesheets", TIMESHEETS)
        from acme_timesheets import Approve  # type: ignore[import-not-found]

        app = App(Approve)
        async with TestRabbitBroker(app.broker):
            yield app


async def test_whoever_asked_gets_the_outcome(app: App) -> None:
    await app.receive('{"entry_id": 7}')
    assert app.replies == [{"correlation_id": "c-1", "message_id": "m-1", "state": "done", "result": {"count": 1}}]


async def test_whoever_asks_again_gets_the_outcome_that_was_kept(app: App) -> None:
    await app.receive('{"entry_id": 7}', "m-1")
    await app.receive('{"entry_id": 8}', "m-2")
    await app.receive('{"entry_id": 7}', "m-1")
    assert app.approved == [7, 8]
    assert [reply["result"]["count"] for reply in app.replies] == [1, 2, 1]


async def test_a_command_that_does_not_validate_is_answered_as_rejected(app: App) -> None:
    with pytest.raises(InvalidMessage):
        await app.receive("{}")
    assert [(reply["state"], reply["reason"]) for reply in app.replies] == [("rejected", "entry_id: Field required")]


async def test_a_command_that_is_dead_is_answered_as_failed(app: App) -> None:
    with pytest.raises(Never):
        await app.receive('{"entry_id": 13}')
    assert [(reply["state"], reply["reason"]) for reply in app.replies] == [("failed", "no entry 13")]


@pytest.mark.parametrize("reply_to", ["", "maintenance.update_task_status", "reply.of-somebody-who-is-gone"])
async def test_a_reply_that_cannot_go_out_changes_nothing(app: App, reply_to: str) -> None:
    await app.receive('{"entry_id": 7}', reply_to=reply_to)
    assert app.approved == [7]
    assert app.replies == []
