"""Which messages are handled together, and in which order."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from taskbell.contracts import UpdateTaskStatus
from taskbell.errors import BrokerUnavailable, DatabaseUnavailable
from taskbell.messaging.consuming.dispatcher import Dispatcher, Subscription
from taskbell.messaging.publishing.publisher import Outgoing
from taskbell.metrics import Metrics


def delivery(number: int, redelivered: bool) -> DeliveredMessage:
    """A command for that task, as it comes from the broker."""
    return DeliveredMessage(
        delivery=Basic.Deliver("tag", 1, redelivered, "taskbell.commands", "maintenance.update_task_status"),
        header=ContentHeader(),
        body=f'{{"task_id": {number}, "new_status": "done"}}'.encode(),
        channel=cast(Any, None),
    )


def lane_of(*numbers: int, batch: int = 10, **more: Any) -> Dispatcher[UpdateTaskStatus]:
    """A dispatcher with these messages waiting; a negative number was delivered before."""

    async def handle(_: object) -> None: ...

    given = {"handle": handle} | more
    subscription = Subscription("maintenance.update_task_status", UpdateTaskStatus, batch=batch, **given)
    dispatcher = Dispatcher(subscription, cast(Any, None), [], Metrics(), asyncio.Event())
    for number in numbers:
        dispatcher.deliver(delivery(abs(number), redelivered=number < 0))
    return dispatcher


def sets(dispatcher: Dispatcher[UpdateTaskStatus]) -> list[list[int]]:
    taken = []
    while batch := dispatcher._take():
        taken.append([held.received.body.task_id for held in batch])
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
    assert sets(lane_of(*numbers)) == expected


async def test_a_set_is_no_larger_than_its_subscription_says() -> None:
    assert sets(lane_of(*range(1, 8), batch=3)) == [[1, 2, 3], [4, 5, 6], [7]]


async def test_what_could_not_be_handled_yet_comes_first_again_and_in_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(_: object) -> None:
        raise DatabaseUnavailable("connection refused")

    monkeypatch.setattr("taskbell.messaging.consuming.holding.PAUSE", 0.0)
    dispatcher = lane_of(1, 2, 3, 4, 5, batch=3, handle=away)
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

    async def settled(*_: object) -> None: ...

    monkeypatch.setattr("taskbell.messaging.consuming.holding.PAUSE", 0.0)
    dispatcher = lane_of(1, 2, 3, 4, batch=3, handle=handle)
    monkeypatch.setattr(dispatcher, "_settle", settled)
    await dispatcher._handle(dispatcher._take())
    assert tried == [[1, 2, 3], [1], [2]]
    assert sets(dispatcher) == [[2, 3, 4]]


async def test_refused_ones_are_taken_in_sets_bounded_by_number_and_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskbell.messaging.consuming.dispatcher.REFUSALS", 3)
    monkeypatch.setattr("taskbell.messaging.consuming.dispatcher.REFUSED_BYTES", 10)
    dispatcher = lane_of()
    for size in (1, 1, 1, 1, 8, 50, 2):
        dispatcher.deliver(replace(delivery(1, redelivered=False), body=b"x" * size))
    taken = []
    while batch := dispatcher._take_refused():
        taken.append([len(it.delivery.message.body) for it in batch])
    for task in dispatcher.tasks:
        task.cancel()
    assert taken == [[1, 1, 1], [1, 8], [50], [2]]


async def test_of_a_refused_set_only_what_lies_with_the_dead_letters_is_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settled: list[tuple[int, str]] = []

    class Half:
        """A publisher to whom the session's end comes before the second confirm."""

        async def publish_all(self, messages: Any) -> list[Exception | None]:
            dispatcher.holding._ending.set()
            return [None, *(BrokerUnavailable("gone") for _ in messages[1:])]

    async def settle(deliveries: Any, word: str) -> None:
        settled.append((len(deliveries), word))

    dispatcher = lane_of()
    dispatcher.holding._publisher = cast(Any, Half())
    monkeypatch.setattr(dispatcher, "_settle", settle)
    for _ in range(3):
        dispatcher.deliver(replace(delivery(1, redelivered=False), body=b"{}"))
    await asyncio.gather(*dispatcher.tasks)
    assert settled == [(1, "dead"), (2, "returned")]


async def test_one_that_cannot_be_refused_does_not_take_the_others_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settled: list[tuple[int, str]] = []

    class Publisher:
        async def publish_all(self, messages: Any) -> list[Exception | None]:
            return [None] * len(messages)

    async def settle(deliveries: Any, word: str) -> None:
        settled.append((len(deliveries), word))

    def dead(envelope: Any, body: bytes, reason: str) -> Outgoing:
        if body == b"[]":
            raise RuntimeError("a bug of ours")
        return Outgoing("x", "y", body, "m")

    dispatcher = lane_of()
    dispatcher.holding._publisher = cast(Any, Publisher())
    monkeypatch.setattr("taskbell.messaging.consuming.holding.PAUSE", 0.0)
    monkeypatch.setattr("taskbell.messaging.consuming.dispatcher.failures.dead", dead)
    monkeypatch.setattr(dispatcher, "_settle", settle)
    for body in (b"{}", b"[]", b"{}"):
        dispatcher.deliver(replace(delivery(1, redelivered=False), body=body))
    await asyncio.gather(*dispatcher.tasks)
    assert settled == [(1, "dead"), (1, "returned"), (1, "dead")]


async def test_nothing_more_is_refused_once_the_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    settled: list[tuple[int, str]] = []

    async def settle(deliveries: Any, word: str) -> None:
        settled.append((len(deliveries), word))

    class Publisher:
        async def publish_all(self, messages: Any) -> list[Exception | None]:
            return [None] * len(messages)

    dispatcher = lane_of()
    dispatcher.holding._publisher = cast(Any, Publisher())
    monkeypatch.setattr(dispatcher, "_settle", settle)
    for _ in range(2):
        dispatcher.deliver(replace(delivery(1, redelivered=False), body=b"{}"))
    dispatcher.holding._ending.set()
    await asyncio.gather(*dispatcher.tasks)
    assert settled == [(2, "returned")]
