"""Opens sessions: aiosmtplib does connection, TLS and AUTH, then our own reader replaces its reader.

aiosmtplib is asked for one step at a time, so that the step of a failure is known.
"""

import asyncio
import base64
import ipaddress
import re
import socket
import ssl
from typing import cast

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPException,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)

from taskbell_notifier.smtp.conversation import Conversation
from taskbell_notifier.smtp.envelope import OutgoingMail, ServerExtensions, lay_out
from taskbell_notifier.smtp.replies import Loss, Reply, Stage, Submission, Verdict, classify, clean, lost, odd
from taskbell_notifier.smtp.settings import SmtpSettings
from taskbell_notifier.smtp.transaction import BeforeData, transact

_NO_SUCH_MECHANISM = frozenset({500, 501, 502, 504})
"""Replies to AUTH which say that the server lacks this mechanism, and nothing about the password."""

_DOMAIN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")


class SmtpSession:
    """An open connection on which mails are sent one after another."""

    def __init__(self, conversation: Conversation, extensions: ServerExtensions, settings: SmtpSettings) -> None:
        self.conversation = conversation
        self.extensions = extensions
        self.mails = 0
        self.idle_since = 0.0
        self._settings = settings

    async def send(self, mail: OutgoingMail, before_data: BeforeData) -> Submission:
        """Hands one mail over, as `transact` does."""
        order = lay_out(mail, self.extensions)
        if isinstance(order, Submission):
            return order
        self.mails += 1
        return await transact(
            self.conversation,
            order,
            before_data,
            pipelining=self.extensions.pipelining,
            timeout=self._settings.timeout,
            data_timeout=self._settings.data_timeout,
        )


class SessionOpener:
    """Opens sessions with the same settings."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._trust: ssl.SSLContext | None = None

    async def open(self) -> SmtpSession | Submission:
        """A session ready for its first mail, or why there is none: a server or configuration fault."""
        try:
            trust = await self._trusted() if self._settings.use_tls or self._settings.use_ssl else None
        except OSError as error:
            return _misconfigured(Stage.CONNECT, f"MAIL_CA_FILE cannot be used: {error.strerror or error}")
        smtp = SMTP(
            hostname=self._settings.server,
            port=self._settings.port,
            timeout=self._settings.timeout,
            use_tls=self._settings.use_ssl,
            # `_Steps` asks for it if it is required; None would make it opportunistic.
            start_tls=False,
            tls_context=trust,
            # It is never sent, because `_greet` gives the name; it keeps aiosmtplib from asking DNS.
            local_hostname="localhost",
        )
        steps = _Steps(smtp, self._settings)
        try:
            refusal = await steps.take()
            if refusal is None and smtp.transport is not None:
                conversation = Conversation(cast(asyncio.Transport, smtp.transport))
                return SmtpSession(conversation, steps.extensions, self._settings)
        except (SMTPException, OSError, ValueError) as error:
            refusal = self._explained(error, steps.stage)
        except BaseException:
            smtp.close()
            raise
        smtp.close()
        # Without a refusal, the connection was lost right after the last reply.
        return refusal or lost(steps.stage, Loss.DROPPED)

    async def _trusted(self) -> ssl.SSLContext:
        """The TLS context; it always verifies certificates and host names."""
        if self._trust is None:
            self._trust = await asyncio.to_thread(ssl.create_default_context, cafile=self._settings.ca_file)
        return self._trust

    def _explained(self, error: Exception, stage: Stage) -> Submission:
        unverified = next((e for e in (error, error.__cause__) if isinstance(e, ssl.SSLCertVerificationError)), None)
        if unverified is not None:
            # MAIL_CA_FILE is read again at the next try: somebody may have corrected it.
            self._trust = None
            what = f"the server's certificate is not trusted ({unverified.verify_message})"
            return _misconfigured(stage, f"{what}: correct MAIL_SERVER, or name its authority in MAIL_CA_FILE")
        if isinstance(error, UnicodeError) and stage is Stage.CONNECT:
            return _misconfigured(stage, "MAIL_SERVER is not a host name: correct it")
        if isinstance(error, SMTPResponseException):
            reply = Reply(max(error.code, 0), error.message)
            return classify(stage, reply) or odd(stage, reply)
        loss = Loss.TIMED_OUT if isinstance(error, SMTPTimeoutError) else Loss.DROPPED
        return Submission(Verdict.SERVER_FAULT, stage, text=clean(str(error)) or loss.value, loss=loss)


class _Steps:
    """Connect, EHLO, STARTTLS, EHLO, AUTH; `stage` is the step that was begun last."""

    def __init__(self, smtp: SMTP, settings: SmtpSettings) -> None:
        self._smtp = smtp
        self._settings = settings
        self.stage = Stage.CONNECT
        self.extensions = ServerExtensions()

    async def take(self) -> Submission | None:
        """Takes all steps; None: each succeeded. Raises what aiosmtplib raises."""
        await self._smtp.connect()
        await self._greet()
        if self._settings.use_tls:
            self.stage = Stage.STARTTLS
            if not self._smtp.supports_extension("starttls"):
                text = "the server does not offer STARTTLS: correct MAIL_PORT (587), or use MAIL_USE_SSL (465)"
                return _misconfigured(self.stage, text)
            await self._smtp.starttls()
            await self._greet()
        self.stage = Stage.AUTH
        if self._settings.username:
            return await self._log_in(self._settings.username, self._settings.password or "")
        return None

    async def _greet(self) -> None:
        self.stage = Stage.EHLO
        await self._smtp.ehlo(hostname=self._settings.local_hostname or self._own_name())
        has = self._smtp.supports_extension
        self.extensions = ServerExtensions(
            pipelining=has("pipelining"), size=has("size"), eightbit=has("8bitmime"), utf8=has("smtputf8")
        )

    def _own_name(self) -> str:
        """The host's name if it has a domain, else its address (RFC 5321 §4.1.4)."""
        name = socket.gethostname()
        if _DOMAIN.fullmatch(name):
            return name
        address = _address(self._smtp.get_transport_info("sockname"))
        return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"

    async def _log_in(self, username: str, password: str) -> Submission | None:
        if self._smtp.get_transport_info("sslcontext") is None:
            peer = _address(self._smtp.get_transport_info("peername"))
            if not peer.is_loopback:
                text = "the password would go in plain text: set MAIL_USE_TLS (port 587) or MAIL_USE_SSL (465)"
                return _misconfigured(self.stage, text)
        ways = {
            "cram-md5": self._smtp.auth_crammd5,
            "plain": self._smtp.auth_plain,
            "login": self._smtp.auth_login,
        }
        offered = [way for name, way in ways.items() if name in self._smtp.server_auth_methods]
        if not offered:
            text = "the server offers no AUTH mechanism that we know: correct MAIL_PORT, or unset MAIL_USERNAME"
            return _misconfigured(self.stage, text)
        refusal: Submission | None = None
        for way in offered:
            try:
                await way(username, password)
            except SMTPAuthenticationError as error:
                reply = Reply(max(error.code, 0), _without_secrets(error.message, username, password))
                verdict = classify(self.stage, reply) or odd(self.stage, reply)
                if refusal is None or refusal.code in _NO_SUCH_MECHANISM:
                    refusal = verdict
                if verdict.verdict is not Verdict.CONFIGURATION_FAULT:
                    return refusal
            except (SMTPServerDisconnected, SMTPTimeoutError):
                if refusal is None or refusal.code in _NO_SUCH_MECHANISM:
                    raise
                # The server refused the password; that it then closed the connection adds nothing.
                return refusal
            else:
                return None
        return refusal


def _misconfigured(stage: Stage, text: str) -> Submission:
    return Submission(Verdict.CONFIGURATION_FAULT, stage, text=clean(text))


def _address(name: tuple[str, int]) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(name[0].partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _without_secrets(text: str, username: str, password: str) -> str:
    """The text without the password as AUTH PLAIN and LOGIN send it: a server may repeat a refused command."""
    if password:
        for secret in (f"\0{username}\0{password}", password):
            text = text.replace(base64.b64encode(secret.encode()).decode(), "<secret>")
    return text
