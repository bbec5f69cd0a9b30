"""An SMTP server that takes all mail as fast as it can, or a given time later, and counts. A process of its own.

    python -m benchmarks.sink PORT CONTROL_PORT [--delay SECONDS] [--counter]

Whatever arrives together is answered together, --delay seconds later: the round trip to a distant server. On the
control port each line is a question, answered by a line of JSON: `taken` or `reset`. It ends when its input does, or at
SIGTERM.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

import uvloop

HELLO = b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
ANSWERS = {
    b"EHLO": HELLO,
    b"HELO": b"250 sink\r\n",
    b"MAIL": b"250 ok\r\n",
    b"RCPT": b"250 ok\r\n",
    b"RSET": b"250 ok\r\n",
    b"NOOP": b"250 ok\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 bye\r\n",
}
END = b"\r\n.\r\n"
MESSAGE_ID = re.compile(rb"^message-id:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
USUAL = b"\nMessage-ID: "
HOST = "127.0.0.1"


@dataclass
class Book:
    """What was taken."""

    taken: int = 0
    first: float | None = None
    """time.monotonic(), which all processes of a machine share."""
    last: float | None = None
    ids: Counter[bytes] = field(default_factory=Counter)

    def note(self, message: bytes) -> None:
        """One more."""
        self.taken += 1
        self.last = time.monotonic()
        if self.first is None:
            self.first = self.last
        self.ids[message_id(message)] += 1

    def reset(self) -> None:
        """Nothing was taken."""
        self.taken, self.first, self.last = 0, None, None
        self.ids.clear()

    def told(self) -> dict[str, float | None]:
        """For whoever asks."""
        return {"taken": self.taken, "distinct": len(self.ids), "first": self.first, "last": self.last}


def message_id(message: bytes) -> bytes:
    """The Message-ID of a message; empty where it has none."""
    at = message.find(USUAL)
    if at >= 0:
        at += len(USUAL)
        return message[at : message.find(b"\r", at)]
    found = MESSAGE_ID.search(message)
    return found[1] if found else b""


class Session(asyncio.Protocol):
    """One client."""

    def __init__(self, book: Book, delay: float, counter: bool) -> None:
        self._book, self._delay, self._counter = book, delay, counter
        self._buffer = b""
        self._in_message = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._answer(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        replies = []
        while buffer:
            if self._in_message:
                end = buffer.find(END)
                if end < 0:
                    break
                self._note(buffer[:end])
                buffer, self._in_message = buffer[end + len(END) :], False
                replies.append(b"250 taken\r\n")
                continue
            line, found, rest = buffer.partition(b"\r\n")
            if not found:
                break
            buffer, verb = rest, line[:4].upper()
            self._in_message = verb == b"DATA"
            replies.append(ANSWERS.get(verb, b"502 what?\r\n"))
        self._buffer = buffer
        if replies:
            self._answer(b"".join(replies))

    def _note(self, message: bytes) -> None:
        self._book.note(message)
        if self._counter:
            os.write(1, b"mesg=%d\r" % self._book.taken)

    def _answer(self, reply: bytes) -> None:
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self._write, reply)
        else:
            self._write(reply)

    def _write(self, reply: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(reply)
            if reply.endswith(ANSWERS[b"QUIT"]):
                self._transport.close()


class Control(asyncio.Protocol):
    """Whoever wants to know."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for question in data.split():  # short lines that nobody sends in halves
            told = self._book.told()
            if question == b"reset":
                self._book.reset()
            self._transport.write(json.dumps(told).encode() + b"\n")


async def serve(port: int, control: int | None, delay: float, counter: bool) -> None:
    """Serves until its input ends, or SIGTERM."""
    book, loop, over = Book(), asyncio.get_running_loop(), asyncio.Event()
    await loop.create_server(lambda: Session(book, delay, counter), HOST, port, backlog=1000)
    if control is not None:
        await loop.create_server(lambda: Control(book), HOST, control)
        loop.add_reader(sys.stdin, lambda: None if os.read(sys.stdin.fileno(), 1024) else over.set())
    loop.add_signal_handler(signal.SIGTERM, over.set)
    await over.wait()


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("control", type=int, nargs="?", help="none: nobody asks, and it does not listen to its input")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--counter", action="store_true", help="write a running count as Postfix's `smtp-sink -c` does")
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.control, given.delay, given.counter))


if __name__ == "__main__":
    main()
