"""Acknowledging many with one frame, and never what is still being handled."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from taskbell.messaging.consuming.acks import Acks, Tally


class Channel:
    """Acknowledges as RabbitMQ does: an unknown tag closes the channel."""

    def __init__(self, delivered: int) -> None:
        self.open = set(range(1, delivered + 1))
        self.acked: set[int] = set()
        self.returned: set[int] = set()
        self.frames = 0

    async def basic_ack(self, tag: int, multiple: bool = False, wait: bool = True) -> None:
        assert tag in self.open, f"unknown delivery tag {tag}: RabbitMQ would close the channel"
        await asyncio.sleep(0)
        assert tag in self.open, f"unknown delivery tag {tag}: RabbitMQ would close the channel"
        these = {each for each in self.open if each <= tag} if multiple else {tag}
        self.open -= these
        self.acked |= these
        self.frames += 1

    async def basic_nack(self, tag: int, requeue: bool = True, wait: bool = True) -> None:
        assert tag in self.open
        assert requeue
        await asyncio.sleep(0)
        self.open.discard(tag)
        self.returned.add(tag)


class Message:
    def __init__(self, channel: Channel, tag: int) -> None:
        self.channel = channel
        self.delivery_tag = tag


def messages(channel: Channel, tags: Sequence[int]) -> list[Any]:
    return [Message(channel, tag) for tag in tags]


def test_what_came_in_order_is_settled_by_its_highest_tag() -> None:
    tally = Tally()
    assert tally.settle([1, 2, 3]) == (3, [])
    assert tally.settle([4]) == (4, [])


def test_what_has_an_open_one_below_it_is_settled_for_itself() -> None:
    tally = Tally()
    assert tally.settle([2, 3]) == (0, [2, 3])
    assert tally.settle([5]) == (0, [5])
    # 1 closes the gap up to 3; but 3 was acknowledged before, so only 1 may be named.
    assert tally.settle([1]) == (1, [])
    assert tally.settle([4, 7]) == (4, [7])


def test_a_tag_that_never_came_stays_open_for_ever() -> None:
    tally = Tally()
    for tag in range(2, 100):
        assert tally.settle([tag]) == (0, [tag])


async def test_a_set_in_order_costs_one_frame() -> None:
    channel, acks = Channel(300), Acks()
    for start in (1, 101, 201):
        await acks.done(messages(channel, range(start, start + 100)))
    assert channel.acked == set(range(1, 301))
    assert channel.frames == 3


@pytest.mark.parametrize("seed", range(20))
async def test_in_whatever_order_workers_end_exactly_what_ended_is_acknowledged(seed: int) -> None:
    chance = random.Random(seed)
    channel, acks = Channel(200), Acks()
    tags = list(range(1, 201))
    sets = []
    while tags:
        size = min(len(tags), chance.randrange(1, 12))
        sets.append(tags[:size])
        tags = tags[size:]
    chance.shuffle(sets)
    kept, back, done = sets[:3], sets[3:6], sets[6:]

    await asyncio.gather(
        *(acks.back(messages(channel, each)) for each in back),
        *(acks.done(messages(channel, each)) for each in done),
    )

    assert channel.acked == {tag for each in done for tag in each}
    assert channel.returned == {tag for each in back for tag in each}
    assert channel.open == {tag for each in kept for tag in each}


async def test_another_channel_begins_anew() -> None:
    first, second, acks = Channel(500), Channel(10), Acks()
    await acks.done(messages(first, range(1, 501)))
    await acks.done(messages(second, [3]))
    await acks.done(messages(second, [1]))
    assert second.acked == {1, 3}
