"""Concurrent items share one write, and each gets its own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from taskbell_notifier.group_commit import LARGEST, GroupCommit


class Desk:
    """Writes when it is let: answers each number with its square, refuses groups with a negative one."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.called = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, numbers: Sequence[int]) -> Sequence[int]:
        self.groups.append(list(numbers))
        self.called.set()
        await self.open.wait()
        if min(numbers) < 0:
            raise ValueError("negative")
        return [number * number for number in numbers]


async def test_what_comes_while_a_group_is_written_is_the_next_group() -> None:
    desk = Desk()
    desk.open.clear()
    commit = GroupCommit(desk.write)
    first = commit.add(1)
    await desk.called.wait()
    others = [commit.add(number) for number in (2, 3, 4)]
    desk.open.set()
    assert await asyncio.gather(first, *others) == [1, 4, 9, 16]
    assert desk.groups == [[1], [2, 3, 4]]


async def test_one_after_the_other_waits_for_nobody() -> None:
    desk = Desk()
    commit = GroupCommit(desk.write)
    assert await commit.add(1) == 1
    assert await commit.add(2) == 4
    assert desk.groups == [[1], [2]]


async def test_a_group_that_fails_fails_alone() -> None:
    desk = Desk()
    desk.open.clear()
    commit = GroupCommit(desk.write)
    bad = [commit.add(-1), commit.add(-2)]
    await desk.called.wait()
    good = commit.add(5)
    desk.open.set()
    for answer in bad:
        with pytest.raises(ValueError, match="negative"):
            await answer
    assert await good == 25


async def test_an_item_is_written_although_its_caller_was_cancelled() -> None:
    desk = Desk()
    desk.open.clear()
    commit = GroupCommit(desk.write)

    async def caller() -> None:
        await commit.add(3)

    task = asyncio.create_task(caller())
    await desk.called.wait()
    task.cancel()
    other = commit.add(4)
    desk.open.set()
    assert await other == 16
    assert desk.groups == [[3], [4]]


async def test_groups_are_bounded() -> None:
    desk = Desk()
    commit = GroupCommit(desk.write)
    await asyncio.gather(*(commit.add(1) for _ in range(LARGEST + 1)))
    assert [len(group) for group in desk.groups] == [LARGEST, 1]


async def test_it_finishes_in_time_or_says_what_is_left() -> None:
    desk = Desk()
    commit = GroupCommit(desk.write)
    commit.add(1)
    assert await commit.finish(timeout=5) == 0
    desk.open.clear()
    commit.add(2)
    commit.add(3)
    assert await commit.finish(timeout=0.01) == 2
