"""A mail server that keeps what it received, byte for byte."""

import asyncio
import email
import email.policy
from dataclasses import dataclass
from email.message import EmailMessage
from functools import cached_property

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.waiting import eventually


@dataclass(frozen=True)
class ReceivedMail:
    """One accepted message with its envelope."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes

    @cached_property
    def message(self) -> EmailMessage:
        """The message, parsed."""
        return email.message_from_bytes(self.raw, policy=email.policy.default)

    @property
    def recipient(self) -> str:
        """The one recipient; fails where there are several."""
        (only,) = self.recipients
        return only

    def text(self, subtype: str = "plain") -> str:
        """The part of that kind, decoded."""
        part = self.message.get_body((subtype,))
        assert part is not None, f"no {subtype} part"
        content = part.get_content()
        assert isinstance(content, str)
        return content


class Inbox:
    """Accepts all but `refusals`, on a free port of the loopback address; `mails` are in the order of their arrival."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.mails: list[ReceivedMail] = []
        self.refusals: dict[str, list[str]] = {}
        """By address, replies in place of 250, each given once."""
        self._sessions: list[SMTP] = []
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(self._session, self.host, 0)

    async def stop(self) -> None:
        """Close the port and the connections."""
        assert self._server is not None
        self._server.close()
        for session in self._sessions:
            if session.transport is not None:
                session.transport.close()
        await self._server.wait_closed()

    def _session(self) -> SMTP:
        session = SMTP(self, enable_SMTPUTF8=True, ident="inbox of a test")
        self._sessions.append(session)
        return session

    def to(self, address: str) -> list[ReceivedMail]:
        """The mails to that address."""
        return [mail for mail in self.mails if address in mail.recipients]

    async def wait_for(self, count: int, *, limit: float = 30.0) -> list[ReceivedMail]:
        """The mails, as soon as there are at least `count`."""
        await eventually(lambda: len(self.mails) >= count, limit=limit, what=f"{count} mails in the inbox")
        return list(self.mails)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Called by aiosmtpd."""
        if self.refusals.get(address):
            return self.refusals[address].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Called by aiosmtpd."""
        assert isinstance(envelope.content, bytes)
        self.mails.append(ReceivedMail(envelope.mail_from or "", tuple(envelope.rcpt_tos), envelope.content))
        return "250 OK"
