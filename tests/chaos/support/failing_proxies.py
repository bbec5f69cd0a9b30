"""Proxies to the broker that fail without closing: connections fall silent, or the broker forgets consumers."""

import asyncio
import struct
import time

from pamqp import commands, frame
from pamqp.base import Frame

from tests.support.proxy import Proxy

_HEAD = struct.Struct(">BHI")
_PROTOCOL = 8  # bytes with which a client begins, before the first frame
_METHOD = 1


class SilentProxy(Proxy):
    """Drops all data on its connections and keeps them open, as a network does if the other end is gone."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._all_silent = False
        self._silent: set[asyncio.StreamWriter] = set()
        self._running: set[asyncio.StreamWriter] = set()
        self.given_up: list[float] = []
        """The monotonic times at which clients closed connections that were open when all fell silent."""

    @property
    def running(self) -> int:
        """How many connections were open when all fell silent."""
        return len(self._running) // 2

    def fall_silent(self) -> None:
        """From now on passes nothing on, either way, on open and on new connections."""
        self._all_silent = True
        self._running = set(self._open)

    def let_new_ones_through(self) -> None:
        """Connections opened from now on work; those that were silent stay silent."""
        self._silent |= self._open
        self._all_silent = False

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool) -> None:
        try:
            while data := await reader.read(65536):
                if not self._is_silent(writer):
                    writer.write(data)
                    await writer.drain()
        except OSError:
            # A broken connection counts as one that was closed.
            pass
        if from_client and writer in self._running:
            self.given_up.append(time.monotonic())
        if from_client or not self._is_silent(writer):
            raise ConnectionResetError
        # The server has closed the connection; its client is not told.

    def _is_silent(self, writer: asyncio.StreamWriter) -> bool:
        return self._all_silent or writer in self._silent


class ForgetfulProxy(Proxy):
    """Makes the broker forget the consumers of a queue: it takes each for cancelled, and no client is told."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._consumers: list[tuple[str, str, int, asyncio.StreamWriter]] = []
        """Queue, tag, channel, and the connection to the broker."""
        self._forgotten: set[str] = set()

    def forget(self, queue: str) -> None:
        """Cancels the queue's consumers at the broker, and each new one as soon as it is there."""
        self._forgotten.add(queue)
        for of, tag, channel, writer in self._consumers:
            if of == queue:
                writer.write(_cancelled(tag, channel))

    def remember(self) -> None:
        """Lets consumers that start from now on stay."""
        self._forgotten.clear()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool) -> None:
        if not from_client:
            return await super()._pass(reader, writer, from_client=False)
        try:
            writer.write(await reader.readexactly(_PROTOCOL))
            while True:
                head = await reader.readexactly(_HEAD.size)
                kind, _, size = _HEAD.unpack(head)
                whole = head + await reader.readexactly(size + 1)
                # The cancel below follows at once: nothing is written in between.
                writer.write(whole)
                if kind == _METHOD:
                    self._look_at(whole, writer)
                await writer.drain()
        except asyncio.IncompleteReadError:
            raise ConnectionResetError from None

    def _look_at(self, whole: bytes, writer: asyncio.StreamWriter) -> None:
        _, channel, method = frame.unmarshal(whole)
        if isinstance(method, commands.Basic.Consume):
            self._consumers.append((method.queue, method.consumer_tag, channel, writer))
            if method.queue in self._forgotten:
                writer.write(_cancelled(method.consumer_tag, channel))


def _cancelled(tag: str, channel: int) -> bytes:
    """The frame that cancels a consumer, and to which the broker does not reply."""
    method: Frame = commands.Basic.Cancel(consumer_tag=tag, nowait=True)
    return frame.marshal(method, channel)
