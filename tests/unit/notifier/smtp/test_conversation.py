"""Reading replies, however their bytes come."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskbell_notifier.smtp.conversation import LINE_LIMIT, REPLY_LIMIT, UNREAD_LIMIT, Conversation
from taskbell_notifier.smtp.replies import Loss, Reply


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and says what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False
        self.protocol: asyncio.Protocol | None = None

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.aborted

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            assert self.protocol is not None
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


async def heard(*chunks: bytes, replies: int) -> list[Reply | Loss]:
    conversation = Conversation(Wire())
    for chunk in chunks:
        conversation.data_received(chunk)
    return [await conversation.read_reply(5) for _ in range(replies)]


@settings(deadline=None)
@given(st.data())
def test_replies_are_the_same_however_they_are_cut(data: st.DataObject) -> None:
    stream = b"250 ok\r\n250-first\r\n250-\r\n250 last\r\n354\r\n550-5.1.1 no\n550 5.1.1 user\n"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        assert runner.run(heard(*chunks, replies=4)) == [
            Reply(250, "ok"),
            Reply(250, "first\n\nlast"),
            Reply(354, ""),
            Reply(550, "5.1.1 no\n5.1.1 user"),
        ]


async def test_a_reply_that_comes_later_is_waited_for() -> None:
    conversation = Conversation(Wire())
    waiting = asyncio.ensure_future(conversation.read_reply(60))
    await asyncio.sleep(0)
    conversation.data_received(b"250 o")
    await asyncio.sleep(0)
    assert not waiting.done()
    conversation.data_received(b"k\r\n")
    assert await waiting == Reply(250, "ok")


async def test_what_was_said_before_hanging_up_is_heard_first() -> None:
    conversation = Conversation(Wire())
    conversation.data_received(b"421 bye\r\n")
    conversation.connection_lost(None)
    assert await conversation.read_reply(5) == Reply(421, "bye")
    assert await conversation.read_reply(5) is Loss.DROPPED
    assert await conversation.read_reply(5) is Loss.DROPPED


async def test_silence_ends_the_connection() -> None:
    wire = Wire()
    conversation = Conversation(wire)
    assert await conversation.read_reply(0.01) is Loss.TIMED_OUT
    assert wire.aborted
    conversation.data_received(b"250 late\r\n")
    assert not conversation.is_open


async def test_bytes_that_trickle_in_do_not_lengthen_the_wait() -> None:
    conversation = Conversation(Wire())
    waiting = asyncio.ensure_future(conversation.read_reply(0.2))

    async def trickle() -> None:
        while not waiting.done():
            conversation.data_received(b"250-x\r\n")
            await asyncio.sleep(0.01)

    trickling = asyncio.ensure_future(trickle())
    assert await waiting is Loss.TIMED_OUT
    await trickling


@pytest.mark.parametrize(
    "nonsense",
    [
        b"hello\r\n",
        b"25 ok\r\n",
        b"2x0 ok\r\n",
        b"250:ok\r\n",
        b"\r\n",
        b"\xff\xfe\xfd\r\n",
        b"250-" + b"x" * LINE_LIMIT + b"x",
        b"250-" + b"\r\n250-" * (REPLY_LIMIT // 4) + b"\r\n",
    ],
)
async def test_nonsense_is_heard_once_as_a_reply_that_cannot_be_read(nonsense: bytes) -> None:
    conversation = Conversation(Wire())
    conversation.data_received(nonsense)
    conversation.data_received(b"250 ok\r\n")
    event = await conversation.read_reply(5)
    assert isinstance(event, Reply)
    assert event.code == 0
    assert await conversation.read_reply(0.01) is Loss.TIMED_OUT


async def test_a_server_that_never_stops_talking_is_not_listened_to_for_ever() -> None:
    conversation = Conversation(Wire())
    for _ in range(10 * UNREAD_LIMIT):
        conversation.data_received(b"250 ok\r\n" * 5)
    replies = []
    while isinstance(event := await conversation.read_reply(0.01), Reply):
        replies.append(event)
    assert len(replies) <= 2 * UNREAD_LIMIT
    assert replies[-1].code == 0


@pytest.mark.parametrize("unasked", [b"421 bye\r\n", b"4", b"421-\r\n", b"\r\n"])
async def test_a_word_that_nobody_asked_for_disturbs_the_quiet(unasked: bytes) -> None:
    conversation = Conversation(Wire())
    assert conversation.is_quiet
    conversation.data_received(unasked)
    assert not conversation.is_quiet
    assert conversation.is_open


async def test_a_connection_that_is_closing_already_is_lost() -> None:
    wire = Wire()
    wire.aborted = True
    conversation = Conversation(wire)
    assert not conversation.is_open
    conversation.write(b"MAIL\r\n")
    assert wire.written == b""
    assert await conversation.read_reply(5) is Loss.DROPPED
    await conversation.wait_closed()


async def test_left_by_us_it_says_so_to_whoever_still_waits() -> None:
    conversation = Conversation(Wire())
    waiting = asyncio.ensure_future(conversation.read_reply(60))
    await asyncio.sleep(0)
    conversation.abort()
    assert await waiting is Loss.LEFT


async def test_a_farewell_is_said_once_and_nothing_after_it() -> None:
    wire = Wire()
    conversation = Conversation(wire)
    conversation.quit()
    conversation.write(b"MAIL\r\n")
    assert wire.written == b"QUIT\r\n"
    await conversation.wait_closed()
