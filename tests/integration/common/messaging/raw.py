"""A publisher that speaks AMQP by the byte, for what no decent client would send."""

import asyncio
import struct
from collections.abc import Mapping
from typing import Self
from urllib.parse import unquote, urlsplit

FLAGS = {
    "content_type": 15, "content_encoding": 14, "headers": 13, "delivery_mode": 12, "priority": 11,
    "correlation_id": 10, "reply_to": 9, "expiration": 8, "message_id": 7, "timestamp": 6, "type": 5, "user_id": 4,
    "app_id": 3,
}  # fmt: skip
METHOD, HEADER, BODY = 1, 2, 3
LARGEST = 131_064  # what fits into one frame
ACK = struct.pack(">HH", 60, 80)


def short(text: bytes) -> bytes:
    """A short string: at most 255 bytes of anything."""
    return bytes([len(text)]) + text


def long(data: bytes) -> bytes:
    """A long string, or the inside of a table or an array."""
    return struct.pack(">I", len(data)) + data


def table(**values: bytes) -> bytes:
    """A table of values that are encoded already, their letter before them."""
    return long(b"".join(short(name.encode()) + value for name, value in values.items()))


def nested(depth: int) -> bytes:
    """An array in an array in an array."""
    value = b"V"
    for _ in range(depth):
        value = b"A" + long(value)
    return value


class RawPublisher:
    """One connection with one channel in confirm mode."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)

    async def __aenter__(self) -> Self:
        url = self._url
        self._reader, self._writer = await asyncio.open_connection(url.hostname, url.port or 5672)
        self._writer.write(b"AMQP\x00\x00\x09\x01")
        await self._answer()
        login = f"\0{url.username}\0{unquote(url.password or '')}".encode()
        start_ok = struct.pack(">I", 0) + short(b"PLAIN") + long(login) + short(b"en_US")
        await self._ask(0, 10, 11, start_ok)
        self._say(0, 10, 31, struct.pack(">HIH", 2047, 131_072, 0))
        await self._ask(0, 10, 40, short(unquote(url.path[1:]).encode()) + b"\0\0")
        await self._ask(1, 20, 10, b"\0")
        await self._ask(1, 85, 10, b"\0")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    async def publish(self, exchange: str, routing_key: bytes, body: bytes, properties: Mapping[str, bytes]) -> bool:
        """Publishes; False where the broker refuses it (and closes the channel)."""
        self._say(1, 60, 40, b"\0\0" + short(exchange.encode()) + short(routing_key) + b"\0")
        flags = sum(1 << bit for name, bit in FLAGS.items() if name in properties)
        encoded = b"".join(properties[name] for name in FLAGS if name in properties)
        self._frame(HEADER, 1, struct.pack(">HHQH", 60, 0, len(body), flags) + encoded)
        for at in range(0, len(body), LARGEST):
            self._frame(BODY, 1, body[at : at + LARGEST])
        return (await self._answer()).startswith(ACK)

    async def _ask(self, channel: int, kind: int, method: int, arguments: bytes) -> None:
        self._say(channel, kind, method, arguments)
        await self._answer()

    def _say(self, channel: int, kind: int, method: int, arguments: bytes) -> None:
        self._frame(METHOD, channel, struct.pack(">HH", kind, method) + arguments)

    def _frame(self, kind: int, channel: int, payload: bytes) -> None:
        self._writer.write(struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce")

    async def _answer(self) -> bytes:
        while True:
            kind, _, size = struct.unpack(">BHI", await self._reader.readexactly(7))
            payload = (await self._reader.readexactly(size + 1))[:-1]
            if kind == METHOD:
                return payload
