"""A proxy to the broker that loses acknowledgements and passes everything else on."""

import asyncio
import struct

from tests.support.proxy import Proxy

PREAMBLE = 8
"""Bytes of the protocol header, before the first frame."""
METHOD = 1
ACK = struct.pack(">HH", 60, 80)
"""Class and method of basic.ack (AMQP 0-9-1)."""


class LostAcks(Proxy):
    """Passes everything on, except acknowledgements while `losing` is set: as if their sender died just before.

    Args:
        connection: the name of the connection whose acknowledgements are lost.
    """

    def __init__(self, url: str, connection: str) -> None:
        super().__init__(url)
        self._name = b"connection_nameS" + struct.pack(">I", len(connection)) + connection.encode()
        self.losing = False
        self.lost = 0
        """Acknowledgements that were lost; one may stand for several messages."""

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool) -> None:
        if not from_client:
            await super()._pass(reader, writer, from_client=False)
        try:
            writer.write(await reader.readexactly(PREAMBLE))
            concerned = False
            while True:
                head = await reader.readexactly(7)
                kind, _, size = struct.unpack(">BHI", head)
                rest = await reader.readexactly(size + 1)
                # The client names its connection once, when it logs in.
                concerned = concerned or self._name in rest
                if concerned and self.losing and kind == METHOD and rest.startswith(ACK):
                    self.lost += 1
                else:
                    writer.write(head + rest)
                    await writer.drain()
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError from error
