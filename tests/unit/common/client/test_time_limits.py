"""A publish that gives up: whom it leaves the connection."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from taskbell.errors import PublishTimeout
from taskbell.messaging.publishing.outgoing import Outgoing
from taskbell.messaging.publishing.publisher import Publisher


class Broker:
    """Confirms what it is told to; the rest waits."""

    def __init__(self) -> None:
        self._told: dict[str, asyncio.Event] = {}

    async def confirmed(
        self, _: object, messages: Mapping[str, bytes], deadline: float
    ) -> dict[str, BaseException | None]:
        (name,) = messages
        try:
            async with asyncio.timeout_at(deadline):
                await self._told.setdefault(name, asyncio.Event()).wait()
        except TimeoutError:
            return {name: PublishTimeout("not in time")}
        return {name: None}

    def confirm(self, name: str) -> None:
        self._told.setdefault(name, asyncio.Event()).set()


class Channel:
    """One that was opened and has not ended."""

    number = 1
    max_content_size = 1024
    is_closed = False


def message(name: str) -> Outgoing:
    return Outgoing("taskbell.commands", "any.key", name.encode(), name)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr("taskbell.messaging.publishing.publisher.confirmed", broker.confirmed)
    return broker


@pytest.fixture
def publisher(broker: Broker) -> Publisher:
    publisher = Publisher("amqp://127.0.0.1/", name="test")
    publisher._channel = cast(Any, Channel())
    return publisher


async def test_where_nothing_was_confirmed_meanwhile_the_connection_is_given_up(publisher: Publisher) -> None:
    with pytest.raises(PublishTimeout):
        await publisher.send(message("slow"), timeout=0.01)
    assert publisher._channel is None


async def test_where_others_were_confirmed_meanwhile_they_keep_it(publisher: Publisher, broker: Broker) -> None:
    channel = publisher._channel
    slow = asyncio.create_task(publisher.send(message("slow"), timeout=0.05))
    broker.confirm("quick")
    await asyncio.sleep(0)  # the slow one goes first
    await publisher.publish(message("quick"))
    with pytest.raises(PublishTimeout):
        await slow
    assert publisher._channel is channel


async def test_a_message_waits_for_another_publish_of_itself(publisher: Publisher, broker: Broker) -> None:
    first = asyncio.create_task(publisher.publish(message("same")))
    await asyncio.sleep(0)
    with pytest.raises(PublishTimeout):
        await publisher.send(message("same"), timeout=0.01)
    broker.confirm("same")
    await first
    await publisher.publish(message("same"))
