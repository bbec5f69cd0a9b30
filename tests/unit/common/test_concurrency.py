"""Tasks that end together."""

import asyncio

import pytest

from taskbell.concurrency import first_of


async def test_the_others_have_ended_when_the_first_is_done() -> None:
    ended = []

    async def other() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("other")

    async def first() -> None:
        await asyncio.sleep(0)

    await first_of(other(), first())
    assert ended == ["other"]


async def test_the_error_of_the_first_is_raised() -> None:
    async def fails() -> None:
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        await first_of(fails(), asyncio.Event().wait())


async def test_time_ends_the_waiting_without_an_error() -> None:
    waiting = asyncio.ensure_future(asyncio.Event().wait())
    await first_of(waiting, timeout=0.01)
    assert waiting.cancelled()


async def test_cancelled_it_takes_all_of_them_along() -> None:
    waiting = asyncio.ensure_future(asyncio.Event().wait())
    task = asyncio.create_task(first_of(waiting))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert waiting.cancelled()


async def test_what_fails_while_it_is_cancelled_hides_nothing() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("in the end")

    await first_of(stubborn(), asyncio.sleep(0))
