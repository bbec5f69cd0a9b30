"""The event loop behind the blocking client."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

import pytest

from taskbell.client.thread import LoopThread


class Slow(LoopThread):
    """The caller is so slow that the work is done before it goes on."""

    def submit(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        future = super().submit(work)
        future.result(60)
        return future


async def nothing() -> None:
    return None


@pytest.mark.parametrize("kind", [LoopThread, Slow])
def test_it_ends_after_its_last_work_however_quickly_that_is_done(kind: type[LoopThread]) -> None:
    thread = kind("test")
    thread.end(nothing())
    thread._thread.join(60)
    assert not thread._thread.is_alive()


def test_what_is_under_way_is_cancelled_at_the_end() -> None:
    thread = LoopThread("test")
    waiting = thread.submit(asyncio.Event().wait())
    thread.end(nothing())
    assert waiting.cancelled()


def test_after_the_end_nothing_more_is_taken() -> None:
    thread = LoopThread("test")
    thread.end(nothing())
    with pytest.raises(RuntimeError):
        thread.submit(nothing())


def test_ended_from_within_it_does_not_wait_for_itself() -> None:
    thread = LoopThread("test")

    async def end() -> None:
        thread.end(nothing())

    thread.submit(end())
    thread._thread.join(60)
    assert not thread._thread.is_alive()
