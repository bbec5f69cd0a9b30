"""Frames on their way in, checked before aiormq decodes them.

Anybody may publish anything, and RabbitMQ passes properties on as it got them. If one is a text that is not UTF-8, a
timestamp in nanoseconds or a table nested a thousand deep, aiormq cannot decode it and gives up the whole connection.
The same message comes again after the next start and takes its neighbours along, until the broker dead-letters all of
them. So properties that cannot be read are replaced here by one header that says so.

A broker may let bodies of any size through, and a consumer gets many messages at once. So of a body that is too large
to be handled only the first KEPT bytes are kept, while it is being read, and a header says how large it was.
"""

import asyncio
import struct
from dataclasses import dataclass
from typing import Any

from pamqp.header import ContentHeader

from taskbell.contracts import MAX_BODY_BYTES
from taskbell.messaging.wire.properties import CUT, MARKS, UNREADABLE, carried

KEPT = 1024
"""Bytes that are kept of a body of more than MAX_BODY_BYTES."""

_HEAD = struct.Struct(">BHI")
_METHOD, _HEADER, _BODY = 1, 2, 3
_DELIVER, _GET_OK = struct.pack(">HH", 60, 60), struct.pack(">HH", 60, 71)
# Flags of headers, expiration, timestamp, and of what AMQP does not know: only a decoder can tell if these are right.
_HARD = 1 << 13 | 1 << 8 | 1 << 6 | 3
_NUMBERS = _MODE, _PRIORITY = 1 << 12, 1 << 11
# The other properties, in the order in which they are sent.
_PLAIN = tuple(bit for bit in (1 << number for number in range(15, 1, -1)) if not bit & _HARD)
_MODES = (0, 1, 2)
_CHUNK = 1 << 16
_END = b"\xce"


class FrameReader:
    """What aiormq needs of a StreamReader, made of whole frames that it can decode.

    It takes everything that has come in at once: asking a StreamReader for each frame costs as much as decoding it.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._chunk = b""
        self._from = 0
        """So many bytes of the chunk have become frames."""
        self._frame = b""
        self._at = 0
        self._cutting: dict[int, _Cut] = {}
        """By channel, what is to come of the bodies that are too large."""

    def at_eof(self) -> bool:
        """Whether everything was read."""
        return self._at == len(self._frame) and self._from == len(self._chunk) and self._reader.at_eof()

    async def read(self, n: int = -1) -> bytes:
        """Returns what is left, unchecked; aiormq does this only to name a server that does not speak AMQP."""
        left, self._from = self._chunk[self._from :], len(self._chunk)
        return left or await self._reader.read(n)

    async def readexactly(self, n: int) -> bytes:
        """Returns the next bytes of the frame under way; aiormq asks for 1, 6 and the rest."""
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
        """Reads until the chunk has n bytes left. Raises IncompleteReadError if the connection ends before."""
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
        while True:
            head = await self._take(_HEAD.size)
            if head.startswith(b"AMQP"):
                return head  # the server speaks another version: aiormq says so
            kind, channel, size = _HEAD.unpack(head)
            rest = await self._take(size + 1)
            if kind != _BODY or channel not in self._cutting:
                return self._checked(kind, channel, head, rest)
            if kept := self._kept(channel, rest[:-1]):
                return _framed(_BODY, channel, kept)

    def _checked(self, kind: int, channel: int, head: bytes, rest: bytes) -> bytes:
        if kind == _HEADER:
            if (size := int.from_bytes(rest[4:12], "big")) > MAX_BODY_BYTES:
                self._cutting[channel] = _Cut(KEPT, size)
                return _readable(channel, head, rest)
            if not _is_plain(rest):
                return _readable(channel, head, rest)
        if kind == _METHOD and rest.startswith((_DELIVER, _GET_OK)) and not rest.isascii():
            return head + _with_text(rest)
        return head + rest

    def _kept(self, channel: int, payload: bytes) -> bytes:
        """What is kept of the next part of a body that is too large; most often nothing."""
        cut = self._cutting[channel]
        kept = payload[: cut.keep]
        cut.keep -= len(kept)
        cut.to_come -= len(payload)
        if cut.to_come <= 0:
            del self._cutting[channel]
        return kept


@dataclass(slots=True)
class _Cut:
    """Of a body under way: the bytes that are still to be kept, and those that are still to come."""

    keep: int
    to_come: int


def _framed(kind: int, channel: int, payload: bytes) -> bytes:
    return _HEAD.pack(kind, channel, len(payload)) + payload + _END


def _is_plain(rest: bytes) -> bool:
    """Whether nothing in these properties can fail. Most messages have short ASCII texts and two numbers only."""
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
    """That content header, or if it cannot be read one that says why; with a size that aiormq waits for."""
    size = int.from_bytes(rest[4:12], "big")
    marks: dict[str, Any] = {CUT: size} if size > MAX_BODY_BYTES else {}
    header = ContentHeader()
    try:
        header.unmarshal(rest[:-1])
        if (expiration := header.properties.expiration) is not None:
            float(expiration)
        if (mode := header.properties.delivery_mode or 0) not in _MODES:
            msg = f"delivery_mode {mode}"
            raise ValueError(msg)  # noqa: TRY301 - handled like what a decoder raises
        given = header.properties.headers or {}
        if not marks and MARKS.isdisjoint(given):
            return head + rest
        header.body_size = KEPT if marks else size
        header.properties.headers = carried(given) | marks
        return _framed(_HEADER, channel, header.marshal())
    except Exception as error:  # noqa: BLE001 - decoders of foreign bytes fail in their own ways, RecursionError among them
        header = ContentHeader(body_size=KEPT if marks else size)
        header.properties.headers = {UNREADABLE: f"properties cannot be read: {error}"[:500]} | marks
        return _framed(_HEADER, channel, header.marshal())


def _with_text(rest: bytes) -> bytes:
    """A Basic.Deliver or Basic.GetOk in which each text that is not UTF-8 has a `?` for each byte that is not ASCII.

    Both have 8 bytes of delivery tag, and one that says whether it was redelivered, before exchange and routing key; a
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
