"""Group commit: the items of concurrent callers are written in one statement, and one commit answers all of them.

While one group is being written, the next one gathers; it is written as soon as the first is done and no further caller
is expected. So a lone caller does not wait, and a hundred callers share one commit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from taskbell.errors import TaskbellError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

LARGEST = 500
"""Items in one statement."""

LINGER = 0.005
"""Seconds that a group waits for further callers that are expected."""


class Later:
    """Returned in place of an answer: the item could not be written, and is to be tried again."""


LATER: Final = Later()


class SplitGroup(TaskbellError):
    """Raised by a write of several items if one is at fault; each is then written alone, and answered at once."""


class GroupCommit(Generic[Item, Answer]):
    """Writes items in groups.

    Args:
        write: commits a group. It returns for each item, in order, its answer, the exception that its caller gets, or
            LATER. If it raises anything but SplitGroup, each caller of the group gets that; later groups are written
            all the same.
        pause: awaited before items that are to be written LATER are tried again.
        complete: given the number of callers that wait, returns True if no further caller is expected soon.
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
        self._alone: list[_Entry[Item, Answer]] = []
        """Items that are written alone, one after each group, so that neither kind waits for all of the other."""
        self._group: list[_Entry[Item, Answer]] = []
        """Items that are being written."""
        self._callers = 0
        self._gathering: asyncio.Future[None] | None = None
        self._writing: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Answer:
        """Writes the item with a group, and returns its answer; if cancelled before that, it is left out."""
        return await self._add(item, asked=True)

    def add(self, item: Item) -> "asyncio.Future[Answer]":
        """Queues the item and returns at once; it is written even if nobody waits for the answer any more."""
        return self._add(item, asked=False)

    async def finish(self, timeout: float) -> list[Item]:
        """Waits until all items are written; returns those that are left when the time is up."""
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
            while self._waiting or self._alone:
                later: list[_Entry[Item, Answer]] = []
                if self._waiting:
                    await self._gather()
                    later = await self._write_first(self._waiting, LARGEST)
                    self._waiting[:0] = later
                if self._alone:
                    alone = await self._write_first(self._alone, 1)
                    self._alone += alone
                    later = later or alone
                if later:
                    await self._pause()
        finally:
            self._waiting[:0] = self._group + self._alone
            self._group, self._alone = [], []
            self._writing = None

    async def _gather(self) -> None:
        """Waits a moment for further callers, if any are expected."""
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
        """Writes the first `most` of the waiting items; returns those that are to be written later."""
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
        except SplitGroup:
            self._callers += sum(entry.asked for entry in group)
            self._alone += group
            return []
        except Exception as error:  # noqa: BLE001 - the callers get it
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
        """True unless its caller was cancelled."""
        return not (self.asked and self.answer.done())


def _end(gathering: "asyncio.Future[None]") -> None:
    if not gathering.done():
        gathering.set_result(None)
