"""A mail server that speaks one dialect of SMTP, as docs/mail-servers.md lists them.

Unlike `scripted_smtp`, which follows the RFCs and can be told to fail, this one is a few lines of raw sockets, so that
a dialect can change any byte that it says.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

EHLO = ("mx.example", "PIPELINING", "SIZE 10485760", "8BITMIME")
"""What the server says to EHLO: its name, and its extensions."""


@dataclass(frozen=True)
class Dialect:
    """How a server differs from the usual one.

    Attributes:
        replies: by verb, the whole reply in place of the usual one; "" for the greeting, "." for the final dot.
        ehlo: the lines of the reply to EHLO.
        keeps: how many of the commands that come together are read; None: all of them.
        loses: the number of the command in a group that is not read, counted from 0.
        refuses_groups: the reply to each further command that comes together with another one.
        hangs_up: closes without a reply to a command that comes together with another one.
        quit: the reply to QUIT; empty: the connection is closed without one.
        wait: seconds before the greeting.
    """

    replies: Mapping[str, str] = field(default_factory=dict)
    ehlo: Sequence[str] = EHLO
    line_end: str = "\r\n"
    keeps: int | None = None
    loses: int | None = None
    refuses_groups: str | None = None
    hangs_up: bool = False
    quit: str = "221 2.0.0 bye\r\n"
    wait: float = 0.0


class OddSmtp:
    """The server, listening on `port` while the `async with` block runs."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.port = 0
        self.lines: list[str] = []
        """Every command line that was read, of all connections."""
        self.mails: list[tuple[str, bytes]] = []
        """RCPT's argument and message of each mail that was taken."""
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        if self._talks:
            await asyncio.wait(self._talks)

    @property
    def verbs(self) -> list[str]:
        """The verb of each command that was read."""
        return [line.split(" ")[0].upper() for line in self.lines]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._talk(reader, writer)
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialect = self.dialect
        await asyncio.sleep(dialect.wait)
        self._say(writer, dialect.replies.get("", "220 mx.example ESMTP\r\n"))
        recipient: str | None = ""
        # What comes in one piece is a group, as it is for the servers whose dialects these are.
        while piece := await reader.read(65_536):
            lines = piece.split(b"\r\n")[:-1]
            for number, line in enumerate(lines):
                if number and dialect.hangs_up:
                    return
                if (dialect.keeps is not None and number >= dialect.keeps) or (number and number == dialect.loses):
                    continue
                text = line.decode()
                verb = text.split(" ")[0].upper()
                self.lines.append(text)
                if number and dialect.refuses_groups is not None:
                    self._say(writer, dialect.refuses_groups)
                    continue
                if verb == "QUIT":
                    self._say(writer, dialect.quit)
                    return
                reply = dialect.replies.get(verb, self._usual(verb))
                if verb == "RCPT":
                    recipient = text.partition(":")[2] if reply.startswith("2") else None
                if verb == "DATA" and recipient is None:
                    reply = "554 5.5.1 no valid recipients\r\n"
                self._say(writer, reply)
                if verb == "DATA" and reply.startswith("3"):
                    message = await reader.readuntil(b"\r\n.\r\n")
                    reply = dialect.replies.get(".", "250 2.0.0 queued\r\n")
                    if reply.startswith("2") and recipient is not None:
                        self.mails.append((recipient, message))
                    self._say(writer, reply)

    def _usual(self, verb: str) -> str:
        if verb == "EHLO":
            *lines, last = self.dialect.ehlo
            return "".join(f"250-{line}\r\n" for line in lines) + f"250 {last}\r\n"
        known = {"DATA": "354 go on\r\n", "AUTH": "235 2.7.0 welcome\r\n"}
        return known.get(verb, "250 2.0.0 ok\r\n")

    def _say(self, writer: asyncio.StreamWriter, reply: str) -> None:
        writer.write(reply.replace("\r\n", self.dialect.line_end).encode())
