"""The connection below AMQP: what aiormq reads from, and what lets go of a connection at once.

Anybody may publish anything. RabbitMQ passes properties on as it got them, but a text that is not UTF-8, a timestamp in
nanoseconds or a table nested a thousand deep is more than the client can decode: it gives up the whole connection, gets
the same message again after the next start, and takes all its neighbours along until the broker dead-letters them. So
frames are looked at on their way in, and properties that cannot be read are replaced by a header that says so.
"""

import asyncio
import struct
from typing import Any, cast

from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from pamqp.header import ContentHeader
from yarl import URL

from taskbell.messaging.wire.properties import UNREADABLE

_HEAD = struct.Struct(">BHI")
_METHOD, _HEADER = 1, 2
_DELIVER, _GET_OK = struct.pack(">HH", 60, 60), struct.pack(">HH", 60, 71)
_HARD = 1 << 13 | 1 << 8 | 1 << 6 | 3  # headers, expiration, timestamp, and what AMQP does not know
_NUMBERS = _MODE, _PRIORITY = 1 << 12, 1 << 11
_PLAIN = tuple(bit for bit in (1 << number for number in range(15, 1, -1)) if not bit & _HARD)  # in their order
_MODES = (0, 1, 2)
_CHUNK = 1 << 16


class Wire(TransportFactory):
    """Makes one connection, over TLS for amqps://."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects; called by aiormq."""
        factory = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, writer = await factory.create(url, **kwargs)
        self._transport = writer.transport
        return cast(asyncio.StreamReader, Frames(reader)), cast(asyncio.StreamWriter, Outlet(writer))

    def abort(self) -> None:
        """Drops the connection at once, with all that still waits to be sent; aiormq then takes it for lost."""
        if self._transport is not None:
            self._transport.abort()


class Frames:
    """What aiormq needs of a StreamReader, made of whole frames that it can decode.

    It takes what has come in at once: to ask a StreamReader for a frame costs as much as to decode it.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._chunk = b""
        self._from = 0
        """So much of the chunk has become frames."""
        self._frame = b""
        self._at = 0

    def at_eof(self) -> bool:
        """Has everything been read?"""
        return self._at == len(self._frame) and self._from == len(self._chunk) and self._reader.at_eof()

    async def read(self, n: int = -1) -> bytes:
        """What is left, unlooked-at; aiormq only does this to name a server that does not speak AMQP."""
        left, self._from = self._chunk[self._from :], len(self._chunk)
        return left or await self._reader.read(n)

    async def readexactly(self, n: int) -> bytes:
        """The next bytes of the frame under way; aiormq asks for 1, 6 and the rest."""
        if self._at == len(self._frame):
            self._frame, self._at = await self._next(), 0
        piece = self._frame[self._at : self._at + n]
        self._at += len(piece)
        return piece

    async def _take(self, n: int) -> bytes:
        if len(self._chunk) - self._from < n:
            await self._fill(n)
        piece = self._chunk[self._from : self._from + n]
        self._from += n
        return piece

    async def _fill(self, n: int) -> None:
        """Reads until there are n bytes. Raises IncompleteReadError where the connection ends before."""
        pieces = [self._chunk[self._from :]]
        there = len(pieces[0])
        while there < n:
            piece = await self._reader.read(_CHUNK)
            if not piece:
                raise asyncio.IncompleteReadError(b"".join(pieces), n)
            pieces.append(piece)
            there += len(piece)
        self._chunk, self._from = b"".join(pieces), 0

    async def _next(self) -> bytes:
        head = await self._take(_HEAD.size)
        if head.startswith(b"AMQP"):
            return head  # the server speaks another version: aiormq says so
        kind, channel, size = _HEAD.unpack(head)
        rest = await self._take(size + 1)
        if kind == _HEADER and not _is_plain(rest):
            return _readable(channel, head, rest)
        if kind == _METHOD and rest.startswith((_DELIVER, _GET_OK)) and not rest.isascii():
            return head + _legible(rest)
        return head + rest


class Outlet:
    """What aiormq needs of a StreamWriter; what it writes in one turn of the loop goes out by one system call."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._waiting: list[bytes] = []
        self.transport = writer.transport
        self.is_closing = writer.is_closing
        self.can_write_eof = writer.can_write_eof
        self.wait_closed = writer.wait_closed

    def write(self, data: bytes) -> None:
        """Sends that, soon."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    async def drain(self) -> None:
        """Waits until there is room in the buffer."""
        self._flush()
        await self._writer.drain()

    def write_eof(self) -> None:
        """Says that nothing follows."""
        self._flush()
        self._writer.write_eof()

    def close(self) -> None:
        """Closes, once all is sent."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            self._writer.write(data)


def _is_plain(rest: bytes) -> bool:
    """Can nothing in these properties fail? Most messages have but short ASCII texts, and two bytes of numbers."""
    flags = int.from_bytes(rest[12:14], "big")
    if flags & _HARD or not rest[14:-1].isascii():
        return False
    at = 14
    try:
        for bit in _PLAIN:
            if flags & bit:
                if bit == _MODE and rest[at] not in _MODES:
                    return False
                at += 1 if bit in _NUMBERS else 1 + rest[at]
    except IndexError:
        return False
    return at == len(rest) - 1


def _readable(channel: int, head: bytes, rest: bytes) -> bytes:
    """That content header, or one that names what cannot be read in it."""
    header = ContentHeader()
    try:
        header.unmarshal(rest[:-1])
        if (expiration := header.properties.expiration) is not None:
            float(expiration)
        if (mode := header.properties.delivery_mode or 0) not in _MODES:
            msg = f"delivery_mode {mode}"
            raise ValueError(msg)  # noqa: TRY301 - told as what a decoder raises
    except Exception as error:  # noqa: BLE001 - decoders of foreign bytes fail in their own ways, RecursionError among them
        header = ContentHeader(body_size=int.from_bytes(rest[4:12], "big"))
        header.properties.headers = {UNREADABLE: f"properties cannot be read: {error}"[:500]}
        payload = header.marshal()
        return _HEAD.pack(_HEADER, channel, len(payload)) + payload + rest[-1:]
    return head + rest


def _legible(rest: bytes) -> bytes:
    """A Basic.Deliver or Basic.GetOk with a `?` for each byte of its texts that is not ASCII, where they are not UTF-8.

    Both have 8 bytes of delivery tag, and one of whether it was redelivered, before exchange and routing key; a
    Deliver has its consumer tag before these.
    """
    frame = bytearray(rest)
    at = 4
    gaps = [9, 0, 0]
    if rest.startswith(_GET_OK):
        at += gaps.pop(0)
    for gap in gaps:
        end = at + 1 + frame[at]
        try:
            frame[at + 1 : end].decode()
        except UnicodeDecodeError:
            frame[at + 1 : end] = bytes(byte if byte < 0x80 else 0x3F for byte in frame[at + 1 : end])
        at = end + gap
    return bytes(frame)
