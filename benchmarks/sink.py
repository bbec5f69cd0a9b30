"""An SMTP server, in its own process, that takes all mail as fast as it can, or with a delay, and counts it.

    python -m benchmarks.sink PORT CONTROL_PORT [--delay SECONDS] [--counter]

Commands that arrive together are answered together, --delay seconds later, as by a distant server. Each line on the
control port is a command, `taken` or `reset`, which is answered by a line of JSON. The process ends when its standard
input ends, or at SIGTERM.
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
class TakenMails:
    """The mails that were taken."""

    taken: int = 0
    first: float | None = None
    """time.monotonic() of the first mail; all processes of a machine share this clock."""
    last: float | None = None
    ids: Counter[bytes] = field(default_factory=Counter)

    def note(self, message: bytes) -> None:
        """Counts one more mail."""
        self.taken += 1
        self.last = time.monotonic()
        if self.first is None:
            self.first = self.last
        self.ids[message_id(message)] += 1

    def reset(self) -> None:
        """Starts counting again at 0."""
        self.taken, self.first, self.last = 0, None, None
        self.ids.clear()

    def counts(self) -> dict[str, float | None]:
        """The counts, as the control port gives them."""
        return {"taken": self.taken, "distinct": len(self.ids), "first": self.first, "last": self.last}


def message_id(message: bytes) -> bytes:
    """The Message-ID of a message; empty if it has none."""
    at = message.find(USUAL)
    if at >= 0:
        at += len(USUAL)
        return message[at : message.find(b"\r", at)]
    found = MESSAGE_ID.search(message)
    return found[1] if found else b""


class Session(asyncio.Protocol):
    """The SMTP session of one client."""

    def __init__(self, mails: TakenMails, delay: float, counter: bool) -> None:
        self._mails, self._delay, self._counter = mails, delay, counter
        self._buffer = b""
        self._in_message = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass of it
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
        self._mails.note(message)
        if self._counter:
            os.write(1, b"mesg=%d\r" % self._mails.taken)

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
    """A connection to the control port."""

    def __init__(self, mails: TakenMails) -> None:
        self._mails = mails

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for question in data.split():  # the lines are so short that they always arrive whole
            counts = self._mails.counts()
            if question == b"reset":
                self._mails.reset()
            self._transport.write(json.dumps(counts).encode() + b"\n")


async def serve(port: int, control: int | None, delay: float, counter: bool) -> None:
    """Serves until standard input ends, or until SIGTERM."""
    mails, loop, over = TakenMails(), asyncio.get_running_loop(), asyncio.Event()
    await loop.create_server(lambda: Session(mails, delay, counter), HOST, port, backlog=1000)
    if control is not None:
        await loop.create_server(lambda: Control(mails), HOST, control)
        loop.add_reader(sys.stdin, lambda: None if os.read(sys.stdin.fileno(), 1024) else over.set())
    loop.add_signal_handler(signal.SIGTERM, over.set)
    await over.wait()


def main() -> None:
    """Runs the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("control", type=int, nargs="?", help="without it, input is ignored, too")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--counter", action="store_true", help="write a running count as Postfix's `smtp-sink -c` does")
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.control, given.delay, given.counter))


if __name__ == "__main__":
    main()
