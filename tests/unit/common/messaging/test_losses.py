"""aiormq's words for a lost connection."""

import asyncio

import pytest

from taskbell.errors import BrokerUnavailable
from taskbell.messaging.losses import LOSSES, losses_named


async def ended_by(error: BaseException | type[BaseException]) -> BaseException:
    """What comes out of losses_named when that goes in."""
    try:
        with losses_named():
            raise error  # noqa: TRY301 - it is the with that is tested
    except BaseException as told:  # noqa: BLE001 - whatever it is, it is what the test looks at
        return told


@pytest.mark.parametrize("error", [Exception, Exception("no reason"), asyncio.CancelledError])
async def test_what_is_rejected_without_a_reason_is_a_loss(error: BaseException | type[BaseException]) -> None:
    told = await ended_by(error)
    assert isinstance(told, ConnectionError)
    assert isinstance(told, LOSSES)
    assert isinstance(told.__cause__, error if isinstance(error, type) else type(error))


@pytest.mark.parametrize("error", [ValueError("ours"), BrokerUnavailable("known"), KeyboardInterrupt()])
async def test_every_other_error_is_left_as_it_is(error: BaseException) -> None:
    assert await ended_by(error) is error


async def test_a_cancelled_task_stays_cancelled() -> None:
    async def wait() -> None:
        with losses_named():
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_time_limit_around_it_stays_a_time_limit() -> None:
    async def wait() -> None:
        async with asyncio.timeout(0):
            with losses_named():
                await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await wait()


async def test_a_task_that_was_cancelled_before_still_learns_of_a_loss() -> None:
    """What a service does while it is being cancelled, such as saying goodbye to the broker."""

    async def say_goodbye() -> BaseException:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await ended_by(asyncio.CancelledError)
        raise AssertionError

    task = asyncio.create_task(say_goodbye())
    await asyncio.sleep(0)
    task.cancel()
    assert isinstance(await task, ConnectionError)
