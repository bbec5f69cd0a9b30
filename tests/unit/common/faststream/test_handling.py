"""A message's way through an app on FastStream, with FastStream's own test broker."""

import asyncio

import pytest
from faststream import ExceptionMiddleware
from faststream.exceptions import AckMessage, RejectMessage
from faststream.message import AckStatus
from faststream.rabbit import RabbitMessage
from tests.unit.common.faststream.app import BODY, App

from taskbell.contracts import TaskStatusChanged
from taskbell.errors import DatabaseUnavailable, InvalidMessage, Never
from taskbell.faststream import HandledInMemory, MessageEnvelope, TaskbellRouter
from taskbell.faststream.handled import Handle
from taskbell.messaging.consuming import failures
from taskbell.messaging.consuming.delivery import Envelope
from taskbell.outcomes import Outcome


async def test_the_handler_gets_the_body_as_its_contract_and_the_envelope_with_the_ids() -> None:
    app = App()
    async with app.running():
        await app.receive(
            BODY.replace(b"{", b'{"added_later": 1, ', 1), correlation_id="c-1", headers={"traceparent": "00-ab"}
        )
    ((task, envelope),) = app.handled
    assert (type(task), task.task_id) == (TaskStatusChanged, 7)
    assert (envelope.queue, envelope.routing_key) == ("timesheets.task_status_changed", "task.status_changed")
    assert (envelope.message_id, envelope.correlation_id) == ("m-1", "c-1")
    assert envelope.headers == {"traceparent": "00-ab"}
    assert (app.retried, app.dead) == ([], [])


async def test_the_body_is_read_whatever_its_content_type_says() -> None:
    app = App()
    async with app.running():
        await app.receive(content_type="text/plain")
    assert [task.task_id for task, _ in app.handled] == [7]


async def test_a_body_that_does_not_validate_goes_to_the_dead_letters_with_the_reason() -> None:
    app = App()
    async with app.running():
        with pytest.raises(InvalidMessage):
            await app.receive(b'{"task_id": "seven"}')
    assert app.handled == []
    (dead,) = app.dead
    assert dead.message_id == "m-1"
    assert dead.body == b'{"task_id": "seven"}'
    assert "task_id: Input should be a valid integer" in dead.headers["x-taskbell-reason"]
    assert dead.headers["x-taskbell-queue"] == "timesheets.task_status_changed"


async def test_one_that_failed_goes_to_the_retry_ladder_and_its_error_is_seen() -> None:
    app = App()
    app.fails_with(ValueError("bad luck"))
    async with app.running():
        with pytest.raises(ValueError, match="bad luck"):
            await app.receive(correlation_id="c-1")
    (retried,) = app.retried
    assert (retried.body, retried.message_id, retried.correlation_id) == (BODY, "m-1", "c-1")
    assert retried.raw_message.routing_key == "timesheets.task_status_changed"
    assert retried.headers["x-taskbell-attempt"] == 1
    assert [message.committed for message in app.messages] == [AckStatus.ACKED]
    assert app.dead == []


async def test_after_the_last_try_it_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "RETRIES", ())
    app = App()
    app.fails_with(ValueError("bad luck"))
    async with app.running():
        with pytest.raises(ValueError, match="bad luck"):
            await app.receive()
    (dead,) = app.dead
    assert dead.headers["x-taskbell-reason"] == "failed 1 times; at last: ValueError: bad luck"
    assert app.retried == []


async def test_headers_that_came_with_a_new_message_are_not_believed() -> None:
    app = App()
    app.fails_with(ValueError("bad luck"))
    async with app.running():
        with pytest.raises(ValueError, match="bad luck"):
            await app.receive(headers={"x-taskbell-attempt": 3, "x-taskbell-reason": "a lie", "x-mine": 1})
    (retried,) = app.retried
    assert retried.headers == {
        "x-mine": 1,
        "x-taskbell-attempt": 1,
        "x-taskbell-exchange": "taskbell.events",
        "x-taskbell-routing-key": "task.status_changed",
    }
    assert app.dead == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Never("no such project"), "no such project"), (RejectMessage(), "rejected by its handler")],
)
async def test_one_that_can_never_take_effect_is_dead_at_once(error: Exception, reason: str) -> None:
    app = App()
    app.fails_with(error)
    async with app.running():
        with pytest.raises(type(error)):
            await app.receive()
    assert [dead.headers["x-taskbell-reason"] for dead in app.dead] == [reason]
    assert app.retried == []


async def test_while_a_server_is_away_it_waits_and_no_try_is_counted() -> None:
    app = App()
    app.fails_with(DatabaseUnavailable("connection refused"))
    async with app.running():
        with pytest.raises(DatabaseUnavailable):
            await app.receive()
    assert [retried.headers["x-taskbell-attempt"] for retried in app.retried] == [0]
    assert app.dead == []


async def test_one_that_the_handler_acknowledges_is_done() -> None:
    app = App()
    app.fails_with(AckMessage())
    async with app.running():
        with pytest.raises(AckMessage):
            await app.receive()
    assert [message.committed for message in app.messages] == [AckStatus.ACKED]
    assert (app.retried, app.dead) == ([], [])


async def test_one_that_the_handler_settles_itself_is_left_alone() -> None:
    async def reject(_task: TaskStatusChanged, _envelope: Envelope) -> None:
        await app.messages[-1].reject()
        raise ValueError("bad luck")

    app = App()
    app.behaviour = reject
    async with app.running():
        with pytest.raises(ValueError, match="bad luck"):
            await app.receive()
    assert [message.committed for message in app.messages] == [AckStatus.REJECTED]
    assert (app.retried, app.dead) == ([], [])


async def test_one_that_is_cut_off_goes_back_to_its_queue() -> None:
    app = App()
    app.fails_with(asyncio.CancelledError())
    async with app.running():
        with pytest.raises(asyncio.CancelledError):
            await app.receive()
    assert [message.committed for message in app.messages] == [AckStatus.NACKED]
    assert (app.retried, app.dead) == ([], [])


async def test_an_error_that_the_apps_own_middleware_swallows_still_retries_the_message() -> None:
    async def swallow(error: ValueError) -> None: ...

    app = App(middlewares=[ExceptionMiddleware(publish_handlers={ValueError: swallow})])
    app.fails_with(ValueError("bad luck"))
    async with app.running():
        await app.receive()
    assert len(app.retried) == 1


async def test_a_repeated_message_takes_effect_once() -> None:
    app = App(HandledInMemory())
    async with app.running():
        for message_id in ("m-1", "m-1", "m-2", "m-1"):
            await app.receive(message_id=message_id)
    assert [envelope.message_id for _, envelope in app.handled] == ["m-1", "m-2"]
    assert (app.retried, app.dead) == ([], [])


async def test_one_that_failed_has_not_taken_effect() -> None:
    handled = HandledInMemory()
    app = App(handled)
    app.fails_with(ValueError("bad luck"))
    async with app.running():
        with pytest.raises(ValueError, match="bad luck"):
            await app.receive()
        app.behaviour = None
        await app.receive(headers={"x-taskbell-attempt": 1})
    assert len(app.handled) == 1
    assert set(handled.outcomes) == {("timesheets.task_status_changed", "m-1")}


async def test_a_body_that_does_not_validate_opens_no_transaction() -> None:
    class Closed(HandledInMemory):
        async def once(self, queue: str, message_id: str, handle: Handle) -> Outcome | None:
            raise AssertionError("it was asked")

    app = App(Closed())
    async with app.running():
        with pytest.raises(InvalidMessage):
            await app.receive(b"{}")
    assert len(app.dead) == 1


async def test_other_subscribers_of_the_router_are_left_alone() -> None:
    app = App()

    @app.router.subscriber("timesheets.other")
    async def other(body: str, message: RabbitMessage) -> None:
        raise ValueError(body)

    app.broker.include_router(app.router)
    async with app.running():
        with pytest.raises(ValueError, match="plain"):
            await app.broker.publish("plain", "timesheets.other")
    assert (app.retried, app.dead) == ([], [])


async def test_a_handler_may_publish_on_behalf_of_its_message() -> None:
    app = App()
    reports = app.router.publishes(TaskStatusChanged)

    async def publish(task: TaskStatusChanged, envelope: Envelope) -> None:
        assert await reports.publish(task, message_id=f"{envelope.message_id}.again", cause=envelope) == "m-1.again"

    async def publish_once(task: TaskStatusChanged, envelope: Envelope) -> None:
        app.behaviour = None
        await publish(task, envelope)

    app.behaviour = publish_once
    async with app.running():
        await app.receive(headers={"traceparent": "00-ab"}, correlation_id="c-1")
    again, first = (envelope for _, envelope in app.handled)
    assert (first.message_id, again.message_id) == ("m-1", "m-1.again")
    assert (again.correlation_id, again.headers) == ("c-1", {"traceparent": "00-ab"})


async def test_two_apps_of_one_broker_have_each_their_own_queue_and_their_own_dead_letters() -> None:
    app = App()
    other = TaskbellRouter("payroll")

    @other.consumes(TaskStatusChanged)
    async def refuse(task: TaskStatusChanged, envelope: MessageEnvelope) -> None:
        raise Never(envelope.queue)

    app.broker.include_router(other)
    async with app.running():
        with pytest.raises(Never, match=r"payroll\.task_status_changed"):
            await app.receive()
        other.dead.mock.assert_called_once()
    assert len(app.handled) == 1
    assert app.dead == []
