"""A token server (RFC 6749) over https whose answers a test scripts."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import parse_qsl

from tests.support.scripted_smtp import Certificate


class TokenServer:
    """Gives out the tokens `token-1`, `token-2` …, or `answers`; listens while the `async with` block runs."""

    def __init__(self, certificate: Certificate) -> None:
        self._certificate = certificate
        self.asked: list[dict[str, str]] = []
        """The fields of each request."""
        self.paths: list[str] = []
        self.more: dict[str, Any] = {"expires_in": 3600, "token_type": "Bearer"}
        """What an answer has besides the token."""
        self.answer: tuple[int, str] | None = None
        """Status and body in place of a token."""
        self.headers: Mapping[str, str] = {}
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"https://localhost:{self._port}/token"

    async def __aenter__(self) -> Self:
        context = self._certificate.server_context()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lengths = [line for line in head.splitlines() if line.lower().startswith("content-length:")]
            body = await reader.readexactly(int(lengths[0].split(":")[1])) if lengths else b""
            self.paths.append(head.split(" ")[1])
            self.asked.append(dict(parse_qsl(body.decode())))
            status, text = self.answer or (200, json.dumps({"access_token": f"token-{len(self.asked)}"} | self.more))
            lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in self.headers.items())]
            lines += [f"Content-Length: {len(text.encode())}", "Connection: close", "", text]
            writer.write("\r\n".join(lines).encode())
            await writer.drain()
        writer.close()
