"""Group commit: what concurrent callers want written goes into one statement, and one commit answers them all.

While one group is being written, the next one gathers; it is written as soon as the first is done and nobody is about
to join it. So a lone caller waits for nobody, and a hundred callers pay for one commit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

LARGEST = 500
"""Items in one statement."""

LINGER = 0.005
"""Seconds that a group waits for those who are about to join it."""


class Later:
    """In place of an answer: the item could not be written, and is to be tried again."""


LATER: Final = Later()


class Apart(Exception):
    """Raised by a write of several items: one of them is at fault. Each is then written alone, and answered at once."""


class GroupCommit(Generic[Item, Answer]):
    """Writes items in groups.

    Args:
        write: commits a group, and returns for each item, in their order, its answer, the exception that its caller
            gets, or LATER. What it raises, each of its callers gets, but for Apart; the groups after it are tried all
            the same.
        pause: waited for before items that are to be written LATER are tried again.
        complete: told how many callers wait in a group, says whether there is nobody else who may soon.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception | Later]]],
        *,
        pause: Callable[[], Awaitable[None]],
        complete: Callable[[int], bool],
    ) -> None:
        self._write = write
        self._pause = pause
        self._complete = complete
        self._waiting: list[_Entry[Item, Answer]] = []
        self._apart: list[_Entry[Item, Answer]] = []
        """Those that are written alone, one after each group, so that neither kind waits for all of the other."""
        self._group: list[_Entry[Item, Answer]] = []
        """Those that are being written."""
        self._callers = 0
        self._gathering: asyncio.Future[None] | None = None
        self._writing: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Answer:
        """Has the item written, and waits for that; cancelled before its group is, it is left out."""
        return await self._add(item, asked=True)

    def add(self, item: Item) -> "asyncio.Future[Answer]":
        """Has the item written, whether or not anybody still waits for the answer; returns at once."""
        return self._add(item, asked=False)

    async def finish(self, timeout: float) -> list[Item]:
        """Waits until everything is written; returns what is left when the time is up."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=timeout)
        if self._writing is None:
            return []
        self._writing.cancel()
        await asyncio.wait({self._writing})
        return [entry.item for entry in self._waiting if entry.is_wanted]

    def _add(self, item: Item, *, asked: bool) -> "asyncio.Future[Answer]":
        entry: _Entry[Item, Answer] = _Entry(item, asyncio.get_running_loop().create_future(), asked=asked)
        self._waiting.append(entry)
        self._callers += asked
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        elif self._gathering is not None and self._complete(self._callers):
            _end(self._gathering)
        return entry.answer

    async def _write_all(self) -> None:
        try:
            while self._waiting or self._apart:
                later: list[_Entry[Item, Answer]] = []
                if self._waiting:
                    await self._gather()
                    later = await self._write_first(self._waiting, LARGEST)
                    self._waiting[:0] = later
                if self._apart:
                    alone = await self._write_first(self._apart, 1)
                    self._apart += alone
                    later = later or alone
                if later:
                    await self._pause()
        finally:
            self._waiting[:0] = self._group + self._apart
            self._group, self._apart = [], []
            self._writing = None

    async def _gather(self) -> None:
        """Waits a moment for callers who are about to join, unless there are none."""
        if self._complete(self._callers):
            return
        loop = asyncio.get_running_loop()
        self._gathering = loop.create_future()
        timer = loop.call_later(LINGER, _end, self._gathering)
        try:
            await self._gathering
        finally:
            timer.cancel()
            self._gathering = None

    async def _write_first(self, waiting: "list[_Entry[Item, Answer]]", most: int) -> "list[_Entry[Item, Answer]]":
        """Takes so many of those that wait; returns those that are to be written later."""
        taken = waiting[:most]
        del waiting[:most]
        self._callers -= sum(entry.asked for entry in taken)
        self._group = [entry for entry in taken if entry.is_wanted]
        later = await self._write_group(self._group) if self._group else []
        self._callers += sum(entry.asked for entry in later)
        self._group = []
        return later

    async def _write_group(self, group: "Sequence[_Entry[Item, Answer]]") -> "list[_Entry[Item, Answer]]":
        try:
            answers = await self._write([entry.item for entry in group])
        except Apart:
            self._callers += sum(entry.asked for entry in group)
            self._apart += group
            return []
        except Exception as error:  # noqa: BLE001 - it is the callers' to handle
            answers = [error] * len(group)
        later = []
        for entry, answer in zip(group, answers, strict=True):
            if isinstance(answer, Later):
                later.append(entry)
            elif entry.answer.done():
                continue
            elif isinstance(answer, Exception):
                entry.answer.set_exception(answer)
            else:
                entry.answer.set_result(answer)
        return later


class _Entry(Generic[Item, Answer]):
    """An item that waits."""

    __slots__ = ("answer", "asked", "item")

    def __init__(self, item: Item, answer: "asyncio.Future[Answer]", *, asked: bool) -> None:
        self.item = item
        self.answer = answer
        self.asked = asked

    @property
    def is_wanted(self) -> bool:
        """Is it still to be written?"""
        return not (self.asked and self.answer.done())


def _end(gathering: "asyncio.Future[None]") -> None:
    if not gathering.done():
        gathering.set_result(None)
