"""Messages on their way over one channel: all written at once, each with a confirm of its own.

aiormq's own publish keeps books on every message that cost more than to encode it. Here its channel is only given what
it needs to match the broker's confirms and returned messages to their futures.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiormq.abc import ChannelFrame
from aiormq.channel import Channel


class Unanswered(Exception):
    """The broker has not said anything in time. No TimeoutError: that may also be what a connection died of."""


async def confirmed(
    channel: Channel, messages: Mapping[str, bytes], deadline: float
) -> Mapping[str, BaseException | None]:
    """Writes messages on a channel in confirm mode, and waits until each has its answer or the channel has ended.

    Args:
        messages: by message_id, the frames of each.
        deadline: the loop's time after which nobody waits any more.

    Returns:
        For each message None, where the broker has confirmed it; Unanswered; what aiormq calls its refusal; or
        what ended the channel.
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

    link = channel.create_future()  # aiormq fails it with whatever ends the channel
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
        pass  # which are late is told below
    finally:
        ended = _error(link) if link.done() else Unanswered()
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
    """What a future that is done has failed with."""
    return asyncio.CancelledError() if answer.cancelled() else answer.exception()
