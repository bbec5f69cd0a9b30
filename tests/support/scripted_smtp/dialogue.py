"""The server's side of one connection."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import TYPE_CHECKING, cast

from tests.support.scripted_smtp.records import Accepted, Connection, Rule

if TYPE_CHECKING:
    from tests.support.scripted_smtp.server import ScriptedSmtp


class Leave(Exception):
    """The connection ends here."""


class Dialogue:
    """The server's side of one connection."""

    def __init__(
        self,
        server: ScriptedSmtp,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: Connection,
        gone: asyncio.Event,
    ) -> None:
        self._server, self._reader, self._writer = server, reader, writer
        self._connection, self._gone = connection, gone
        self._sender: str | None = None
        self._named: list[str] = []
        self._recipients: list[str] = []

    async def run(self) -> None:
        """Until the client has gone, has quit, or the script drops it (Leave)."""
        await self._answer("CONNECT", "220 scripted.test ESMTP")
        verbs = {
            "EHLO": self._ehlo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "QUIT": self._quit,
        }
        while True:
            verb, _, rest = (await self._line()).partition(" ")
            self._connection.verbs.append(verb.upper())
            self._server.happened()
            if verb.upper() in verbs:
                await verbs[verb.upper()](rest)
            elif verb.upper() == "NOOP":
                await self._answer("NOOP", "250 2.0.0 ok")
            else:
                await self._say("502 5.5.1 unknown command")

    async def _ehlo(self, _: str) -> None:
        server = self._server
        offers = ["scripted.test"] + ["PIPELINING"] * server.pipelining + list(server.extensions)
        if server.tls == "starttls" and not self._connection.encrypted:
            offers.append("STARTTLS")
        if server.users:
            offers.append(" ".join(("AUTH", *server.mechanisms)))
        self._forget_envelope()
        await self._answer("EHLO", "\n".join([f"250-{o}" for o in offers[:-1]] + [f"250 {offers[-1]}"]))

    async def _starttls(self, _: str) -> None:
        if not (await self._answer("STARTTLS", "220 2.0.0 go ahead")).startswith("2"):
            return
        assert self._server.certificate is not None
        await self._writer.start_tls(self._server.certificate.server_context())
        self._connection.encrypted = True

    async def _auth(self, rest: str) -> None:
        if self._scripts("AUTH"):
            await self._answer("AUTH", "235 2.7.0 welcome")
            return
        mechanism, _, initial = rest.partition(" ")
        if mechanism.upper() == "PLAIN":
            _, user, password = (_decoded(initial or await self._challenge("")) + "\0\0").split("\0")[:3]
        elif mechanism.upper() == "LOGIN":
            user = _decoded(initial or await self._challenge("Username:"))
            password = _decoded(await self._challenge("Password:"))
        else:
            await self._say("504 5.5.4 no such mechanism")
            return
        right = user in self._server.users and self._server.users[user] == password
        self._connection.user = user if right else None
        await self._answer("AUTH", "235 2.7.0 welcome" if right else "535 5.7.8 wrong name or password")

    async def _mail(self, rest: str) -> None:
        self._forget_envelope()
        usual = "250 2.1.0 sender ok"
        if self._server.users and self._connection.user is None:
            usual = "530 5.7.0 authentication needed"
        if (await self._answer("MAIL", usual)).startswith("2"):
            self._sender = _path(rest)

    async def _rcpt(self, rest: str) -> None:
        self._named.append(_path(rest))
        usual = "503 5.5.1 MAIL first" if self._sender is None else "250 2.1.5 recipient ok"
        if (await self._answer("RCPT", usual)).startswith("2"):
            self._recipients.append(_path(rest))

    async def _data(self, _: str) -> None:
        usual = "354 go on" if self._recipients else "554 5.5.1 no valid recipients"
        if (await self._answer("DATA", usual)).startswith("3"):
            await self._message()

    async def _message(self) -> None:
        lines = [await self._reader.readline()]
        rule = self._server.fitting("BODY", self._connection, self._named)
        if rule is not None:
            transport = cast(asyncio.Transport, self._writer.transport)
            transport.pause_reading()  # whoever stalls reads nothing either
            await self._act(rule, "")
            transport.resume_reading()
        while lines[-1] != b".\r\n":
            lines.append(await self._reader.readline())
            if not lines[-1].endswith(b"\n"):
                raise Leave
        self._connection.messages += 1
        self._server.happened()
        raw = b"".join(lines[:-1])
        message = Accepted(
            message_id=_header(lines, b"message-id:"),
            sender=self._sender or "",
            recipients=tuple(self._recipients),
            raw=raw,
            message=b"".join(line.removeprefix(b".") for line in lines[:-1]),
            connection=self._connection.number,
        )
        usual = "250 2.0.0 taken" if self._recipients else "554 5.5.1 no valid recipients"
        await self._answer("DOT", usual, message)
        self._forget_envelope()

    async def _rset(self, _: str) -> None:
        if (await self._answer("RSET", "250 2.0.0 ok")).startswith("2"):
            self._forget_envelope()

    async def _quit(self, _: str) -> None:
        await self._answer("QUIT", "221 2.0.0 bye")
        raise Leave

    def _scripts(self, at: str) -> bool:
        """Is there a rule that answers, or drops, instead of us?"""
        return any(r.at == at and (r.reply is not None or r.drop) for r in self._server.rules)

    async def _answer(self, at: str, usual: str, message: Accepted | None = None) -> str:
        """What was said in the end: the rule's words or the usual ones; empty for nothing."""
        rule = self._server.fitting(at, self._connection, self._named)
        if rule is not None:
            return await self._act(rule, usual, message)
        if message is not None and usual.startswith("2"):
            self._server.take(message)
        await self._say(usual)
        return usual

    async def _act(self, rule: Rule, usual: str, message: Accepted | None = None) -> str:
        if message is not None and rule.accept:
            self._server.take(message)
        await self._pause(rule.delay)
        if rule.hold:
            await self._server.wait_for_release(rule, self._gone)
        said = rule.reply if rule.reply is not None else "" if rule.drop else usual
        if message is not None and rule.accept is None and said.startswith("2") and not self._gone.is_set():
            self._server.take(message)
        if said:
            await self._say(said, rule.bytes_per_second)
        if rule.drop:
            if rule.reset:
                self._writer.transport.abort()
            raise Leave
        return said

    async def _challenge(self, text: str) -> str:
        await self._say(f"334 {base64.b64encode(text.encode()).decode()}")
        return await self._line()

    async def _say(self, text: str, pace: float | None = None) -> None:
        data = text.replace("\n", "\r\n").encode("utf-8", "surrogateescape") + b"\r\n"
        pace = pace or self._server.bytes_per_second
        pieces = [data] if pace is None else [bytes([byte]) for byte in data]
        for piece in pieces:
            if self._gone.is_set():
                raise Leave
            self._server.record(self._connection, "server", piece)
            self._writer.write(piece)
            await self._writer.drain()
            if pace is not None:
                await self._pause(1 / pace)

    async def _pause(self, seconds: float) -> None:
        """That long, or until the client is gone."""
        if seconds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._gone.wait()

    async def _line(self) -> str:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise Leave
        return line.decode("utf-8", "replace").strip()

    def _forget_envelope(self) -> None:
        self._sender = None
        self._named = []
        self._recipients = []


def _path(rest: str) -> str:
    return rest.partition("<")[2].partition(">")[0]


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


def _header(lines: list[bytes], name: bytes) -> str:
    for line in lines:
        if not line.strip():
            break
        if line.lower().startswith(name):
            return line[len(name) :].decode("utf-8", "replace").strip()
    return ""
