"""Writing messages on a channel, all at once, and waiting for the confirm of each.

aiormq's own publish costs more for each message than encoding it does. So its channel is given only what it needs to
match the broker's confirms and returned messages to their futures; docs/decisions/0006 lists what is used of it.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiormq.abc import ChannelFrame
from aiormq.channel import Channel

from taskbell.errors import PublishTimeout


async def confirmed(
    channel: Channel, messages: Mapping[str, bytes], deadline: float
) -> Mapping[str, BaseException | None]:
    """Writes messages on a channel in confirm mode, and waits until each has its answer or the channel has ended.

    Args:
        messages: by message_id, the frames of each.
        deadline: the loop's time at which waiting ends.

    Returns:
        For each message None if the broker confirmed it; PublishTimeout if it did not answer by the deadline; aiormq's
        error if it refused or returned the message; or what ended the channel.
    """
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = len(messages)

    def is_over(_: object = None) -> None:
        if not over.done():
            over.set_result(None)

    def one_less(_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            is_over()

    # aiormq fails this future with whatever ends the channel.
    link = channel.create_future()
    link.add_done_callback(is_over)
    expected: dict[str, asyncio.Future[Any]] = {}
    try:
        async with asyncio.timeout_at(deadline):
            async with channel.lock:
                if not link.done():
                    await channel.write_queue.put(ChannelFrame(b"".join(messages.values()), should_close=False))
                    # No confirm comes in before this task waits again.
                    expected = {message_id: _expected(channel, message_id) for message_id in messages}
                    for confirm in expected.values():
                        confirm.add_done_callback(one_less)
            await over
    except TimeoutError:
        pass  # those that are late get PublishTimeout below
    finally:
        ended = _error(link) if link.done() else PublishTimeout("RabbitMQ did not confirm in time")
        link.cancel()
        answers = {message_id: _error(it) if it.done() else ended for message_id, it in expected.items()}
        for confirm in expected.values():
            confirm.cancel()
    return {message_id: answers.get(message_id, ended) for message_id in messages}


def _expected(channel: Channel, message_id: str) -> "asyncio.Future[Any]":
    """The confirm of the next message on the channel."""
    confirm: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    channel.delivery_tag += 1
    tag = channel.delivery_tag
    channel.confirmations[tag] = confirm
    channel.message_id_delivery_tag[message_id] = tag

    def forget(_: object) -> None:
        if channel.message_id_delivery_tag.get(message_id) == tag:
            del channel.message_id_delivery_tag[message_id]

    confirm.add_done_callback(forget)
    return confirm


def _error(answer: "asyncio.Future[Any]") -> BaseException | None:
    """The error of a future that is done, if it has one."""
    return asyncio.CancelledError() if answer.cancelled() else answer.exception()
