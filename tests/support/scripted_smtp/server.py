"""The server: listens, keeps the script, remembers what happened."""

import asyncio
import base64
import json
import random
import ssl
import time
from collections.abc import Callable
from typing import IO, Any, Literal, Self

from tests.support.scripted_smtp.certificate import Certificate
from tests.support.scripted_smtp.dialogue import Dialogue, Leave
from tests.support.scripted_smtp.records import Accepted, Connection, Rule

LINE_LIMIT = 64 * 1024 * 1024


class ScriptedSmtp:
    """The server. Attributes may be changed while it runs; they count from the next connection on."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        pipelining: bool = True,
        extensions: tuple[str, ...] = ("SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES"),
        tls: Literal["none", "starttls", "implicit"] = "none",
        certificate: Certificate | None = None,
        users: dict[str, str] | None = None,
        mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN"),
        bytes_per_second: float | None = None,
        seed: int = 0,
        log: IO[str] | None = None,
        log_raw: bool = False,
        keep: bool = True,
    ) -> None:
        """Makes a server; `async with` starts and stops it.

        Args:
            host: where to listen.
            port: 0 for a free one, which `port` then tells.
            pipelining: announce PIPELINING.
            extensions: what else to announce.
            tls: "starttls" offers it, "implicit" speaks TLS from the first byte; both need `certificate`.
            certificate: see `Certificate.make`.
            users: names and passwords; given, AUTH is offered and needed before MAIL.
            mechanisms: what AUTH offers.
            bytes_per_second: writes replies that slowly, byte by byte.
            seed: for rules with a chance.
            log: a text stream that gets one JSON object, with its Unix time, for each connection, accepted
                message and end.
            log_raw: log messages' bytes too, in base64.
            keep: remember what was said and accepted; False for a long run whose log suffices.
        """
        self.host, self.port = host, port
        self.pipelining, self.extensions = pipelining, extensions
        self.tls, self.certificate = tls, certificate
        self.users, self.mechanisms = users or {}, mechanisms
        self.bytes_per_second = bytes_per_second
        self.rules: list[Rule] = []
        self.accepted: list[Accepted] = []
        self.connections: list[Connection] = []
        self.opened = 0
        """Connections so far."""
        self._random = random.Random(seed)
        self._log, self._log_raw, self._keep = log, log_raw, keep
        self._released = asyncio.Event()
        self._happened = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    # --- scripting

    def rule(self, at: str, **what: Any) -> Rule:
        """Adds a rule, see `Rule`; returns it, so that it can be removed with `server.rules.remove(rule)`."""
        made = Rule(at, **what)
        self.rules.append(made)
        return made

    def clear(self) -> None:
        """Forgets all rules, and lets go what they hold."""
        self.rules.clear()
        self.release()

    def release(self, rule: Rule | None = None) -> None:
        """Lets every held answer go on, or those that this rule holds; later ones are held again."""
        if rule is None:
            self._released.set()
            self._released = asyncio.Event()
        else:
            rule.released.set()
            rule.released = asyncio.Event()

    def say_to_all(self, line: str, *, close: bool = False) -> None:
        """Says something that nobody asked for on every open connection."""
        for writer in list(self._writers):
            writer.write(line.encode() + b"\r\n")
            if close:
                writer.close()

    def drop_all(self, *, reset: bool = False) -> None:
        """Closes every open connection."""
        for writer in list(self._writers):
            if reset:
                writer.transport.abort()
            else:
                writer.close()

    async def until(self, condition: Callable[[], bool], timeout: float = 20.0) -> None:
        """Returns once the condition holds; it is looked at whenever something happens.

        Raises:
            TimeoutError: it did not within that many seconds.
        """
        async with asyncio.timeout(timeout):
            while not condition():
                self._happened.clear()
                await self._happened.wait()

    @property
    def open_connections(self) -> list[Connection]:
        return [connection for connection in self.connections if not connection.closed]

    # --- running

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens; again on the same port after a `stop`."""
        loop = asyncio.get_running_loop()
        context = None
        if self.tls == "implicit":
            assert self.certificate is not None
            context = self.certificate.server_context()
        self._server = await loop.create_server(
            lambda: _Tee(self), self.host, self.port, ssl=context, backlog=1000, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes the port and every connection at once."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    async def serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: Connection,
        gone: asyncio.Event,
    ) -> None:
        """Talks on one connection until it ends."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        if self._keep:
            self.connections.append(connection)
        connection.encrypted = self.tls == "implicit"
        self._note("connect", connection=connection.number)
        try:
            await Dialogue(self, reader, writer, connection, gone).run()
        except (Leave, ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the connection is over; what was said on it is in the transcript
        finally:
            connection.closed = True
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()
            self._note("close", connection=connection.number)

    # --- for the dialogue

    def fitting(self, at: str, connection: Connection, recipients: list[str]) -> Rule | None:
        """The rule that acts here, if one does; counts it."""
        for rule in self.rules:
            if rule.at != at or rule.connection not in (None, connection.number):
                continue
            if rule.recipient is not None and rule.recipient not in recipients:
                continue
            if rule.chance < 1.0 and self._random.random() >= rule.chance:
                continue
            rule.seen += 1
            if rule.seen > rule.after and (rule.times is None or rule.seen <= rule.after + rule.times):
                return rule
        return None

    async def wait_for_release(self, rule: Rule, gone: asyncio.Event) -> None:
        """Returns when held answers are let go, or when the client is gone."""
        waits = [asyncio.create_task(event.wait()) for event in (self._released, rule.released, gone)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def next_number(self) -> int:
        self.opened += 1
        return self.opened

    def record(self, connection: Connection, who: Literal["client", "server"], data: bytes) -> None:
        if self._keep:
            connection.transcript.append((who, data))
        self._happened.set()

    def happened(self) -> None:
        """Something that a test may wait for."""
        self._happened.set()

    def take(self, message: Accepted) -> None:
        if self._keep:
            self.accepted.append(message)
        raw = {"raw": base64.b64encode(message.raw).decode()} if self._log_raw else {}
        self._note(
            "accepted",
            connection=message.connection,
            message_id=message.message_id,
            recipients=list(message.recipients),
            **raw,
        )

    def _note(self, event: str, **what: Any) -> None:
        if self._log is not None:
            self._log.write(json.dumps({"event": event, "at": time.time(), **what}) + "\n")
            self._log.flush()
        self._happened.set()


class _Tee(asyncio.StreamReaderProtocol):
    """Writes down what comes in, in the order of the wire, before it is read."""

    def __init__(self, server: ScriptedSmtp) -> None:
        self._connection = Connection(server.next_number())
        self._scripted = server
        self.gone = asyncio.Event()
        super().__init__(asyncio.StreamReader(limit=LINE_LIMIT), self._talk)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._scripted.serve(reader, writer, self._connection, self.gone)

    def eof_received(self) -> bool | None:
        self.gone.set()  # nobody is left to hear a held answer
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._scripted.record(self._connection, "client", data)
        super().data_received(data)
