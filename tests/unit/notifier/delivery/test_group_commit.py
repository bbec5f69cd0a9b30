"""Concurrent items share one write, and each gets its own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from taskbell_notifier.delivery import group_commit
from taskbell_notifier.delivery.group_commit import LARGEST, LATER, GroupCommit, Later, SplitGroup


class Desk:
    """Writes when it is let: answers each number with its square, refuses groups with a negative one.

    Evens are put off while it is `puzzled`, a seven is its caller's mistake, and a 13 is written alone or not at all.
    """

    def __init__(self) -> None:
        self.puzzled = False
        self.hint = asyncio.Event()
        self.expected = 0
        """Callers who are about to come, and those who have."""
        self.groups: list[list[int]] = []
        self.called = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    def commit(self) -> GroupCommit[int, int]:
        return GroupCommit(self.write, pause=self.think, complete=lambda asked: asked >= self.expected)

    async def think(self) -> None:
        await self.hint.wait()
        self.puzzled = False

    async def write(self, numbers: Sequence[int]) -> Sequence[int | Exception | Later]:
        self.groups.append(list(numbers))
        self.called.set()
        await self.open.wait()
        for _ in range(3):
            await asyncio.sleep(0)  # others have their turn, as while a statement is on its way
        if min(numbers) < 0:
            raise ValueError("negative")
        if 13 in numbers and len(numbers) > 1:
            raise SplitGroup
        return [self._answer(number) for number in numbers]

    def _answer(self, number: int) -> int | Exception | Later:
        if number == 7:
            return LookupError("seven")
        return LATER if self.puzzled and number % 2 == 0 else number * number


async def test_what_comes_while_a_group_is_written_is_the_next_group() -> None:
    desk = Desk()
    desk.open.clear()
    commit = desk.commit()
    first = commit.add(1)
    await desk.called.wait()
    others = [commit.add(number) for number in (2, 3, 4)]
    desk.open.set()
    assert await asyncio.gather(first, *others) == [1, 4, 9, 16]
    assert desk.groups == [[1], [2, 3, 4]]


async def test_one_after_the_other_waits_for_nobody() -> None:
    desk = Desk()
    commit = desk.commit()
    assert await commit.add(1) == 1
    assert await commit.add(2) == 4
    assert desk.groups == [[1], [2]]


async def test_a_group_that_fails_fails_alone() -> None:
    desk = Desk()
    desk.open.clear()
    commit = desk.commit()
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
    commit = desk.commit()

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
    commit = desk.commit()
    await asyncio.gather(*(commit.add(1) for _ in range(LARGEST + 1)))
    assert [len(group) for group in desk.groups] == [LARGEST, 1]


async def test_it_finishes_in_time_or_says_what_is_left() -> None:
    desk = Desk()
    commit = desk.commit()
    commit.add(1)
    assert await commit.finish(timeout=5) == []
    desk.open.clear()
    commit.add(2)
    commit.add(3)
    assert await commit.finish(timeout=0.01) == [2, 3]


async def test_a_caller_who_has_gone_before_its_group_is_left_out() -> None:
    desk = Desk()
    desk.open.clear()
    commit = desk.commit()
    first = commit.add(1)
    await desk.called.wait()
    task = asyncio.create_task(commit.ask(3))
    await asyncio.sleep(0)
    task.cancel()
    other = commit.add(4)
    desk.open.set()
    assert await asyncio.gather(first, other) == [1, 16]
    assert desk.groups == [[1], [4]]


async def test_a_group_waits_for_those_who_are_about_to_join_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "LINGER", 60.0)
    desk = Desk()
    desk.expected = 3
    commit = desk.commit()
    outcome = commit.add(10)
    callers = [asyncio.create_task(commit.ask(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    assert desk.groups == []
    callers.append(asyncio.create_task(commit.ask(3)))
    assert await asyncio.gather(outcome, *callers) == [100, 1, 4, 9]
    assert desk.groups == [[10, 1, 2, 3]]


async def test_it_waits_only_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "LINGER", 0.001)
    desk = Desk()
    desk.expected = 3
    assert await desk.commit().ask(1) == 1


async def test_an_item_of_many_may_fail_alone() -> None:
    desk = Desk()
    commit = desk.commit()
    good, bad = commit.add(2), commit.add(7)
    assert await good == 4
    with pytest.raises(LookupError, match="seven"):
        await bad


async def test_what_is_put_off_is_written_after_the_pause_and_before_what_came_meanwhile() -> None:
    desk = Desk()
    desk.puzzled = True
    desk.open.clear()
    commit = desk.commit()
    odd, even = commit.add(3), commit.add(2)
    await desk.called.wait()
    meanwhile = commit.add(5)
    desk.open.set()
    assert await odd == 9
    assert not even.done()
    desk.hint.set()
    assert await asyncio.gather(even, meanwhile) == [4, 25]
    assert desk.groups == [[3, 2], [2, 5]]


async def test_of_a_group_that_is_taken_apart_each_is_answered_once_it_is_written() -> None:
    desk = Desk()
    commit = desk.commit()
    first, second, last = commit.add(1), commit.add(13), commit.add(3)
    assert await first == 1
    assert not last.done()
    assert await asyncio.gather(second, last) == [169, 9]
    assert desk.groups == [[1, 13, 3], [1], [13], [3]]


async def test_others_do_not_wait_until_all_of_them_are_written() -> None:
    desk = Desk()
    commit = desk.commit()
    apart = [commit.add(number) for number in (1, 13, 3)]
    await desk.called.wait()
    meanwhile = commit.add(5)
    assert await asyncio.gather(*apart, meanwhile) == [1, 169, 9, 25]
    assert desk.groups == [[1, 13, 3], [1], [5], [13], [3]]


async def test_one_that_is_put_off_does_not_hold_up_the_others_that_are_written_alone() -> None:
    desk = Desk()
    desk.puzzled = True
    commit = desk.commit()
    even, odd, last = commit.add(2), commit.add(13), commit.add(3)
    desk.hint.set()
    assert await asyncio.gather(even, odd, last) == [4, 169, 9]
    assert desk.groups == [[2, 13, 3], [2], [13], [3], [2]]


async def test_those_whose_callers_have_gone_meanwhile_are_left_out() -> None:
    desk = Desk()
    commit = desk.commit()
    asked = asyncio.create_task(commit.ask(4))
    await asyncio.sleep(0)
    other = commit.add(13)
    await desk.called.wait()
    asked.cancel()
    assert await other == 169
    assert await commit.finish(timeout=5) == []
    assert desk.groups == [[4, 13], [13]]


async def test_what_is_left_of_a_group_that_was_taken_apart_is_told() -> None:
    desk = Desk()
    commit = desk.commit()
    first, second, last = commit.add(1), commit.add(13), commit.add(3)
    first.add_done_callback(lambda _: desk.open.clear())  # the next is on its way by then
    await asyncio.gather(first, second)
    assert await commit.finish(timeout=0.01) == [3]
    assert not last.done()
