"""Messages that do not validate: in sets to the dead letters, and acknowledged only once they lie there."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from tests.unit.common.messaging.deliveries import QUEUE, Channel

from taskbell.contracts import UpdateTaskStatus
from taskbell.errors import BrokerUnavailable
from taskbell.messaging.consuming.dispatcher import Dispatcher
from taskbell.messaging.consuming.subscription import Subscription
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.metrics import Metrics

INVALID = b"{}"


class Publisher:
    """Keeps what is published, and confirms it unless it has another answer."""

    def __init__(self) -> None:
        self.sets: list[list[bytes]] = []
        self.answer: Callable[[Sequence[Outgoing]], list[Exception | None]] = lambda messages: [None] * len(messages)

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        self.sets.append([message.body for message in messages])
        return self.answer(messages)


class Refusing:
    """A dispatcher whose messages do not validate."""

    def __init__(self) -> None:
        async def handle(_: object) -> None:
            raise AssertionError("a message that does not validate was handled")

        self.channel = Channel()
        self.publisher = Publisher()
        self.ending = asyncio.Event()
        subscription = Subscription(QUEUE, UpdateTaskStatus, handle)
        self._dispatcher = Dispatcher(subscription, cast(Any, self.publisher), [], Metrics(), self.ending)

    async def take(self, *bodies: bytes) -> None:
        """Delivers these, and waits until each is settled."""
        for body in bodies:
            self._dispatcher.deliver(self.channel.deliver(body))
        await asyncio.wait_for(self._dispatcher.wait_idle(), 5)


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskbell.messaging.consuming.holding.PAUSE", 0.0)


async def test_sets_are_bounded_by_number_and_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskbell.messaging.consuming.refusals.REFUSALS", 3)
    monkeypatch.setattr("taskbell.messaging.consuming.refusals.REFUSED_BYTES", 10)
    refusing = Refusing()
    await refusing.take(*(b"x" * size for size in (1, 1, 1, 1, 8, 50, 2)))
    assert [[len(body) for body in each] for each in refusing.publisher.sets] == [[1, 1, 1], [1, 8], [50], [2]]


async def test_only_what_lies_with_the_dead_letters_is_acknowledged() -> None:
    refusing = Refusing()

    def ends_before_the_second_confirm(messages: Sequence[Outgoing]) -> list[Exception | None]:
        refusing.ending.set()
        return [None, *(BrokerUnavailable("gone") for _ in messages[1:])]

    refusing.publisher.answer = ends_before_the_second_confirm
    await refusing.take(INVALID, INVALID, INVALID)
    assert refusing.channel.acknowledged == {1}
    assert refusing.channel.returned == {2, 3}


async def test_one_that_cannot_be_refused_does_not_take_the_others_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(_envelope: object, body: bytes, _reason: str) -> Outgoing:
        if body == b"[]":
            raise RuntimeError("a bug of ours")
        return Outgoing("x", "y", body, "m")

    monkeypatch.setattr("taskbell.messaging.consuming.failures.dead", dead)
    refusing = Refusing()
    await refusing.take(INVALID, b"[]", INVALID)
    assert refusing.channel.acknowledged == {1, 3}
    assert refusing.channel.returned == {2}
    assert refusing.publisher.sets == [[INVALID], [INVALID]]


async def test_nothing_more_is_refused_once_the_session_ends() -> None:
    refusing = Refusing()
    refusing.ending.set()
    await refusing.take(INVALID, INVALID)
    assert refusing.publisher.sets == []
    assert refusing.channel.returned == {1, 2}
