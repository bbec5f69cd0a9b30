"""aiormq's words for a lost connection."""

import asyncio

import pytest
from aiormq import exceptions

from taskbell.errors import BrokerUnavailable
from taskbell.messaging.wire.connection_errors import CONNECTION_ERRORS, connection_errors_named, in_words

LOGIN = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
QUEUE = "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'taskbell_maintenance'"
OPENING = "Expected one of ['Connection.OpenOk'], got <Connection.Close object at 0x7f74ef380650>"


async def ended_by(error: BaseException | type[BaseException]) -> BaseException:
    """What comes out of connection_errors_named when that goes in."""
    try:
        with connection_errors_named():
            raise error  # noqa: TRY301 - it is the with that is tested
    except BaseException as told:  # noqa: BLE001 - whatever it is, it is what the test looks at
        return told


@pytest.mark.parametrize("error", [Exception, Exception("no reason"), asyncio.CancelledError])
async def test_what_is_rejected_without_a_reason_is_a_loss(error: BaseException | type[BaseException]) -> None:
    told = await ended_by(error)
    assert isinstance(told, ConnectionError)
    assert isinstance(told, CONNECTION_ERRORS)
    assert isinstance(told.__cause__, error if isinstance(error, type) else type(error))


@pytest.mark.parametrize("error", [ValueError("ours"), BrokerUnavailable("known"), KeyboardInterrupt()])
async def test_every_other_error_is_left_as_it_is(error: BaseException) -> None:
    assert await ended_by(error) is error


async def test_a_cancelled_task_stays_cancelled() -> None:
    async def wait() -> None:
        with connection_errors_named():
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_time_limit_around_it_stays_a_time_limit() -> None:
    async def wait() -> None:
        async with asyncio.timeout(0):
            with connection_errors_named():
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


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (exceptions.ProbableAuthenticationError(LOGIN), "check user and password in BROKER_URL"),
        (exceptions.ChannelAccessRefused(QUEUE), "run `taskbell setup` for its rights"),
        (exceptions.InvalidFrameError(OPENING), "the virtual host in BROKER_URL"),
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "BROKER_URL names another place"),
        (RuntimeError(), "RuntimeError"),
        (RuntimeError("first\nsecond"), "first"),
    ],
)
def test_what_is_said_of_one_is_a_line_that_names_what_to_look_at(error: Exception, words: str) -> None:
    assert words in in_words(error)
    assert "\n" not in in_words(error)
