"""Group commit: what concurrent callers want written goes into one statement, and one commit answers them all.

While one group is being written, the next one gathers; it is written as soon as the first is done. So a lone caller
waits for nobody, and a hundred callers pay for one commit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

LARGEST = 500
"""Items in one statement."""


class GroupCommit(Generic[Item, Answer]):
    """Writes items in groups.

    Args:
        write: commits a group, and returns one answer for each item, in their order. What it raises, each of its
            callers gets; the groups after it are tried all the same.
    """

    def __init__(self, write: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]]) -> None:
        self._write = write
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._writing: asyncio.Task[None] | None = None

    def add(self, item: Item) -> "asyncio.Future[Answer]":
        """Has the item written, whether or not anybody still waits for the answer; returns at once."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        return answer

    async def finish(self, timeout: float) -> int:
        """Waits until everything is written; returns how many items are left when the time is up."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=timeout)
        if self._writing is None:
            return 0
        self._writing.cancel()
        await asyncio.wait({self._writing})
        return len(self._waiting)

    async def _write_all(self) -> None:
        group: list[tuple[Item, asyncio.Future[Answer]]] = []
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
                await self._write_group(group)
                group = []
        finally:
            self._waiting = group + self._waiting
            self._writing = None

    async def _write_group(self, group: "Sequence[tuple[Item, asyncio.Future[Answer]]]") -> None:
        try:
            answers = await self._write([item for item, _ in group])
        except Exception as error:  # noqa: BLE001 - it is the callers' to handle
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), found in zip(group, answers, strict=True):
            if not answer.done():
                answer.set_result(found)
