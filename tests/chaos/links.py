"""Ways to the broker that fail without a word: connections fall silent, consumers are gone and do not know it."""

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
    """Swallows what comes on its connections, and keeps them open, as a network does whose other end is gone."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._all_silent = False
        self._silent: set[asyncio.StreamWriter] = set()
        self._running: set[asyncio.StreamWriter] = set()
        self.given_up: list[float] = []
        """The monotonic times at which clients hung up connections that ran when all fell silent."""

    @property
    def running(self) -> int:
        """Connections that ran when all fell silent."""
        return len(self._running) // 2

    def fall_silent(self) -> None:
        """From now on nothing gets through any more, either way, on these connections and on new ones."""
        self._all_silent = True
        self._running = set(self._open)

    def let_new_ones_through(self) -> None:
        """Connections that come from now on work; those that were silent stay so."""
        self._silent |= self._open
        self._all_silent = False

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool) -> None:
        try:
            while data := await reader.read(65536):
                if not self._is_silent(writer):
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass  # as good as an end
        if from_client and writer in self._running:
            self.given_up.append(time.monotonic())
        if from_client or not self._is_silent(writer):
            raise ConnectionResetError
        # The server has hung up: its client does not get to know.

    def _is_silent(self, writer: asyncio.StreamWriter) -> bool:
        return self._all_silent or writer in self._silent


class ForgetfulProxy(Proxy):
    """Has the broker forget the consumers of a queue: it takes each for cancelled, and no client gets to know."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._consumers: list[tuple[str, str, int, asyncio.StreamWriter]] = []
        """Queue, tag, channel, and the way to the broker."""
        self._forgotten: set[str] = set()

    def forget(self, queue: str) -> None:
        """Its consumers are gone at the broker, and so is each new one as soon as it is there."""
        self._forgotten.add(queue)
        for of, tag, channel, writer in self._consumers:
            if of == queue:
                writer.write(_cancelled(tag, channel))

    def remember(self) -> None:
        """Consumers that come from now on stay."""
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
                writer.write(whole)  # with what follows in one go: nobody writes in between
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
    """The consumer's farewell, to which the broker says nothing."""
    method: Frame = commands.Basic.Cancel(consumer_tag=tag, nowait=True)
    return frame.marshal(method, channel)
