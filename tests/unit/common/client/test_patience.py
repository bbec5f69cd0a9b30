"""A publish that gives up: whom it leaves the connection."""

import asyncio
from typing import Any, cast

import pytest

from taskbell.errors import PublishTimeout
from taskbell.messaging.publisher import Outgoing, Publisher


class Channel:
    """Confirms what it is told to; the rest waits."""

    is_closed = False

    def __init__(self) -> None:
        self.confirmed: dict[bytes, asyncio.Event] = {}

    async def basic_publish(self, body: bytes, **_: Any) -> None:
        await self.confirmed.setdefault(body, asyncio.Event()).wait()

    def confirm(self, body: bytes) -> None:
        self.confirmed.setdefault(body, asyncio.Event()).set()


def message(name: str) -> Outgoing:
    return Outgoing("taskbell.commands", "any.key", name.encode(), name)


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
def publisher(channel: Channel) -> Publisher:
    publisher = Publisher("amqp://127.0.0.1/", name="test")
    publisher._channel = cast(Any, channel)
    return publisher


async def test_where_nothing_was_confirmed_meanwhile_the_connection_is_given_up(publisher: Publisher) -> None:
    with pytest.raises(PublishTimeout):
        await publisher.send(message("slow"), timeout=0.01)
    assert publisher._channel is None


async def test_where_others_were_confirmed_meanwhile_they_keep_it(publisher: Publisher, channel: Channel) -> None:
    slow = asyncio.create_task(publisher.send(message("slow"), timeout=0.05))
    channel.confirm(b"quick")
    await asyncio.sleep(0)  # the slow one goes first
    await publisher.publish(message("quick"))
    with pytest.raises(PublishTimeout):
        await slow
    assert publisher._channel is cast(Any, channel)


async def test_a_message_waits_for_another_publish_of_itself(publisher: Publisher, channel: Channel) -> None:
    first = asyncio.create_task(publisher.publish(message("same")))
    await asyncio.sleep(0)
    with pytest.raises(PublishTimeout):
        await publisher.send(message("same"), timeout=0.01)
    channel.confirm(b"same")
    await first
    await publisher.publish(message("same"))
