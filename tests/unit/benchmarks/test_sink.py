"""The mail server that only counts."""

import asyncio
import tempfile

import pytest
from benchmarks.sink import Session, TakenMails, message_id
from benchmarks.sinks import counted


class Wire(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


GREETING = b"220 sink ESMTP\r\n"
ENVELOPE = b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n"
MESSAGE = b"Subject: x\r\nMessage-ID: <1@example.test>\r\n\r\nText\r\n..\r\n.\r\n"


def session() -> tuple[Session, Wire, TakenMails]:
    mails, wire = TakenMails(), Wire()
    made = Session(mails, 0.0, counter=False)
    made.connection_made(wire)
    return made, wire, mails


def test_what_comes_together_is_answered_together() -> None:
    made, wire, mails = session()
    made.data_received(ENVELOPE)
    assert wire.written == GREETING + b"250 ok\r\n250 ok\r\n354 go on\r\n"
    made.data_received(MESSAGE)
    assert mails.taken == 1
    assert wire.written.endswith(b"250 taken\r\n")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_conversation_in_pieces_is_the_same(size: int) -> None:
    made, wire, mails = session()
    words = ENVELOPE + MESSAGE + ENVELOPE + MESSAGE + b"QUIT\r\n"
    for start in range(0, len(words), size):
        made.data_received(words[start : start + size])
    assert mails.counts() | {"first": None, "last": None} == {"taken": 2, "distinct": 1, "first": None, "last": None}
    assert wire.closed


def test_a_reset_book_has_nothing_in_it() -> None:
    made, _, mails = session()
    made.data_received(ENVELOPE + MESSAGE)
    mails.reset()
    assert mails.counts() == {"taken": 0, "distinct": 0, "first": None, "last": None}
    made.data_received(ENVELOPE + MESSAGE)
    assert mails.taken == 1


@pytest.mark.parametrize(
    "message",
    [
        b"Subject: x\r\nMessage-ID: <1@a>\r\n\r\n",
        b"message-id: <1@a>\r\nSubject: x\r\n\r\n",
        b"Message-Id:\r\n <1@a>\r\n\r\n",
    ],
)
def test_the_message_id_is_found_however_it_is_written(message: bytes) -> None:
    assert message_id(message) == b"<1@a>"


def test_a_message_without_one_has_none() -> None:
    assert message_id(b"Subject: x\r\n\r\n") == b""


@pytest.mark.parametrize(
    ("text", "count"),
    [(b"", 0), (b"sess=1 quit=0 mesg=0\rsess=1 quit=0 mesg=12\r", 12), (b"sess=1 quit=0 mesg=12\rsess=1 mesg=1", 12)],
)
def test_only_whole_records_of_smtp_sink_are_read(text: bytes, count: int) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(text)
        file.flush()
        assert counted(file.fileno()) == count
