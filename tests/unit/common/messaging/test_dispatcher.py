"""Which messages are handled together, and in which order."""

import asyncio
from typing import Any, cast

import pytest
from tests.unit.common.messaging.deliveries import QUEUE, Channel, command

from taskbell.contracts import UpdateTaskStatus
from taskbell.errors import DatabaseUnavailable
from taskbell.messaging.consuming.dispatcher import Dispatcher
from taskbell.messaging.consuming.subscription import Subscription
from taskbell.metrics import Metrics


def dispatcher_with(*numbers: int, batch: int = 10, **more: Any) -> Dispatcher[UpdateTaskStatus]:
    """A dispatcher with these messages waiting; a negative number was delivered before."""

    async def handle(_: object) -> None: ...

    channel = Channel()
    given = {"handle": handle} | more
    subscription = Subscription(QUEUE, UpdateTaskStatus, batch=batch, **given)
    dispatcher = Dispatcher(subscription, cast(Any, None), [], Metrics(), asyncio.Event())
    for number in numbers:
        dispatcher.deliver(channel.deliver(command(abs(number)), redelivered=number < 0))
    return dispatcher


def sets(dispatcher: Dispatcher[UpdateTaskStatus]) -> list[list[int]]:
    taken = []
    while batch := dispatcher._take():
        taken.append([valid.received.body.task_id for valid in batch])
    return taken


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((1, 2, 3), [[1, 2, 3]]),
        ((-1, 2, 3), [[1], [2, 3]]),
        ((1, 2, -3, 4), [[1, 2], [3], [4]]),
        ((-1, -2), [[1], [2]]),
        ((1, -2), [[1], [2]]),
        ((), []),
    ],
)
async def test_a_message_that_was_delivered_before_is_never_in_a_set(
    numbers: tuple[int, ...], expected: list[list[int]]
) -> None:
    assert sets(dispatcher_with(*numbers)) == expected


async def test_a_set_is_no_larger_than_its_subscription_says() -> None:
    assert sets(dispatcher_with(*range(1, 8), batch=3)) == [[1, 2, 3], [4, 5, 6], [7]]


async def test_what_could_not_be_handled_yet_comes_first_again_and_in_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(_: object) -> None:
        raise DatabaseUnavailable("connection refused")

    monkeypatch.setattr("taskbell.messaging.consuming.holding.PAUSE", 0.0)
    dispatcher = dispatcher_with(1, 2, 3, 4, 5, batch=3, handle=away)
    await dispatcher._handle(dispatcher._take())
    assert sets(dispatcher) == [[1, 2, 3], [4, 5]]


async def test_when_a_server_goes_away_amid_a_set_that_failed_none_of_it_overtakes_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[list[int]] = []

    async def handle(messages: Any) -> None:
        tried.append([message.body.task_id for message in messages])
        if len(messages) > 1:
            raise ValueError("one of them")
        if tried[-1] == [2]:
            raise DatabaseUnavailable("connection refused")

    monkeypatch.setattr("taskbell.messaging.consuming.holding.PAUSE", 0.0)
    dispatcher = dispatcher_with(1, 2, 3, 4, batch=3, handle=handle)
    await dispatcher._handle(dispatcher._take())
    assert tried == [[1, 2, 3], [1], [2]]
    assert sets(dispatcher) == [[2, 3, 4]]
