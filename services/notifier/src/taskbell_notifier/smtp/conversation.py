"""Reads the replies of an SMTP server, in order, on a connection that aiosmtplib has opened.

aiosmtplib's own reader expects one reply for each command and drops any other, so it cannot read the replies to a
pipelined group (RFC 2920). This reader replaces it on the transport once TLS and AUTH are done.
"""

import asyncio
from collections import deque

from taskbell_notifier.smtp.replies import Loss, Reply

LINE_LIMIT = 8_192
"""Bytes of one line; RFC 5321 §4.5.3.1.5 asks for 512."""

REPLY_LIMIT = 32_768
"""Bytes of one reply, all its lines together."""

UNREAD_LIMIT = 16
"""Replies that nobody has read yet; no group of commands has so many."""


class Conversation(asyncio.Protocol):
    """One open connection: `write` sends commands, `read_reply` waits for the next reply."""

    def __init__(self, transport: asyncio.Transport) -> None:
        """Becomes the protocol of the transport; must be called inside its event loop."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._rest = b""
        self._lines: list[bytes] = []
        self._size = 0
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._loss: Loss | None = None
        self._unreadable = False
        self._closed = asyncio.Event()
        self.in_doubt = False
        """A byte of a message may have gone out, and the reply to the message has not come."""
        transport.set_protocol(self)
        if transport.is_closing():
            self._lose(Loss.DROPPED)
            self._closed.set()

    @property
    def is_quiet(self) -> bool:
        """True if it is open and the server has sent nothing unasked. Only then may a mail be begun."""
        return self._loss is None and not self._replies and not self._rest and not self._lines

    @property
    def is_open(self) -> bool:
        return self._loss is None

    @property
    def loss(self) -> Loss | None:
        """How the connection ended; None: it is open."""
        return self._loss

    def write(self, data: bytes) -> None:
        """Writes. On a lost connection it does nothing; the next `read_reply` reports the loss."""
        if self._loss is None:
            self._transport.write(data)

    async def read_reply(self, timeout: float) -> Reply | Loss:
        """The next whole reply, or why there is none.

        Replies that came before the connection was lost are returned first. A reply that is not whole after `timeout`
        seconds is `Loss.TIMED_OUT`, and the connection is closed: a late reply could be taken for the reply to another
        command.
        """
        if not self._replies and self._loss is None:
            waiter = self._waiter = self._loop.create_future()
            timer = self._loop.call_later(timeout, self._give_up)
            try:
                await waiter
            finally:
                timer.cancel()
                self._waiter = None
        if self._replies:
            return self._replies.popleft()
        return self._loss or Loss.DROPPED

    def quit(self) -> None:
        """Sends QUIT and closes without waiting for the reply, because nothing depends on it."""
        self.write(b"QUIT\r\n")
        self._lose(Loss.LEFT)
        self._transport.close()

    def abort(self) -> None:
        """Closes at once; what has not been sent yet is dropped."""
        self._lose(Loss.LEFT)
        self._transport.abort()

    async def wait_closed(self) -> None:
        """Returns once the connection is gone."""
        await self._closed.wait()

    def data_received(self, data: bytes) -> None:
        if self._unreadable:
            return
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._read_line(line.removesuffix(b"\r"))
        if len(self._rest) > LINE_LIMIT or len(self._replies) > UNREAD_LIMIT:
            self._stop_reading(self._rest)
        if self._replies:
            self._wake()

    def eof_received(self) -> None:
        self._lose(Loss.DROPPED)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(Loss.DROPPED)
        self._closed.set()

    def _read_line(self, line: bytes) -> None:
        if self._unreadable:
            return
        code, mark, text = line[:3], line[3:4], line[4:]
        if len(code) < 3 or not code.isdigit() or mark not in (b" ", b"-", b""):
            self._stop_reading(line)
            return
        self._lines.append(text)
        self._size += len(line)
        if self._size > REPLY_LIMIT:
            self._stop_reading(text)
        elif mark != b"-":
            whole = b"\n".join(self._lines)
            self._lines.clear()
            self._size = 0
            self._replies.append(Reply(int(code), whole.decode(errors="replace")))

    def _stop_reading(self, line: bytes) -> None:
        """A line that is not a reply, or a reply without an end: no later reply can be matched to its command."""
        self._unreadable = True
        self._lines.clear()
        self._rest = b""
        self._replies.append(Reply(0, line[:LINE_LIMIT].decode(errors="replace")))

    def _give_up(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._lose(Loss.TIMED_OUT)
            self._transport.abort()

    def _lose(self, loss: Loss) -> None:
        if self._loss is None:
            self._loss = loss
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
