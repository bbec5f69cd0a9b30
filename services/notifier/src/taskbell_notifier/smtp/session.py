"""Opens sessions: aiosmtplib does connection, TLS and AUTH, then our own reader replaces its reader.

aiosmtplib is asked for one step at a time, so that the step of a failure is known.
"""

import asyncio
import ssl
import time
from typing import cast

from aiosmtplib import SMTP, SMTPException, SMTPHeloError, SMTPResponseException, SMTPTimeoutError

from taskbell_notifier.smtp.conversation import Conversation
from taskbell_notifier.smtp.envelope import OutgoingMail, ServerExtensions, lay_out
from taskbell_notifier.smtp.login import Login, misconfigured, peer_address
from taskbell_notifier.smtp.own_name import HostName, literal
from taskbell_notifier.smtp.pipelining import Pipelining
from taskbell_notifier.smtp.replies import (
    Loss,
    Reply,
    Stage,
    Submission,
    Verdict,
    classify,
    clean,
    lost,
    odd,
)
from taskbell_notifier.smtp.settings import SmtpSettings
from taskbell_notifier.smtp.transaction import BeforeData, transact

_NO_SUCH_COMMAND = frozenset({500, 501, 502, 503, 504})
"""Replies to EHLO which say that the server does not know it."""


class SmtpSession:
    """An open connection on which mails are sent one after another."""

    def __init__(
        self,
        conversation: Conversation,
        extensions: ServerExtensions,
        settings: SmtpSettings,
        pipelining: Pipelining,
    ) -> None:
        self.conversation = conversation
        self.extensions = extensions
        self.mails = 0
        self.idle_since = 0.0
        self.may_try_again = False
        """The last mail's message was not begun, and the session is why; on a new session the mail may go at once."""
        self.is_used_up = False
        """The server takes no further recipients on it."""
        self._settings = settings
        self._pipelining = pipelining

    async def send(self, mail: OutgoingMail, before_data: BeforeData) -> Submission:
        """Hands one mail over, as `transact` does."""
        self.may_try_again = False
        order = lay_out(mail, self.extensions)
        if isinstance(order, Submission):
            return order
        self.mails += 1
        asked = False

        async def note_and_ask() -> bool:
            nonlocal asked
            asked = True
            return await before_data()

        together = self.extensions.pipelining and self._pipelining.allowed
        submission = await transact(
            self.conversation,
            order,
            note_and_ask,
            pipelining=together,
            timeout=self._settings.timeout,
            data_timeout=self._settings.data_timeout,
        )
        if self.extensions.pipelining:
            self._judge(submission, together=together, begun=asked)
        # The session takes no more recipients; another one does.
        self.is_used_up = submission.code == 452 and submission.enhanced == "4.5.3"
        return submission

    def _judge(self, submission: Submission, *, together: bool, begun: bool) -> None:
        """Learns from a mail whether the server keeps commands that come together."""
        if not together:
            self._pipelining.went_alone(submission, self.conversation.loss, begun=begun)
        elif begun:
            self._pipelining.answered()
        elif self._pipelining.lost(submission, self.conversation.loss):
            self.may_try_again = True
            self.conversation.abort()


class SessionOpener:
    """Opens sessions with the same settings."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._trust: ssl.SSLContext | None = None
        self._host = HostName()
        self._login = Login(settings)
        self._pipelining = Pipelining(time.monotonic)

    async def open(self) -> SmtpSession | Submission:
        """A session ready for its first mail, or why there is none: a server or configuration fault."""
        try:
            trust = await self._trusted() if self._settings.use_tls or self._settings.use_ssl else None
        except OSError as error:
            return misconfigured(Stage.CONNECT, f"MAIL_CA_FILE cannot be used: {error.strerror or error}")
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
        steps = _Steps(smtp, self._settings, self._host, self._login)
        try:
            refusal = await steps.take()
            if refusal is None and smtp.transport is not None:
                conversation = Conversation(cast(asyncio.Transport, smtp.transport))
                return SmtpSession(conversation, steps.extensions, self._settings, self._pipelining)
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
            return misconfigured(stage, f"{what}: correct MAIL_SERVER, or name its authority in MAIL_CA_FILE")
        if isinstance(error, UnicodeError) and stage is Stage.CONNECT:
            return misconfigured(stage, "MAIL_SERVER is not a host name: correct it")
        if isinstance(error, SMTPResponseException):
            reply = Reply(max(error.code, 0), error.message)
            return classify(stage, reply) or odd(stage, reply)
        loss = Loss.TIMED_OUT if isinstance(error, SMTPTimeoutError) else Loss.DROPPED
        return Submission(Verdict.SERVER_FAULT, stage, text=clean(str(error)) or loss.value, loss=loss)


class _Steps:
    """Connect, EHLO, STARTTLS, EHLO, AUTH; `stage` is the step that was begun last."""

    def __init__(self, smtp: SMTP, settings: SmtpSettings, host: HostName, login: Login) -> None:
        self._smtp = smtp
        self._settings = settings
        self._host = host
        self._login = login
        self.stage = Stage.CONNECT
        self.extensions = ServerExtensions()

    async def take(self) -> Submission | None:
        """Takes all steps; None: each succeeded. Raises what aiosmtplib raises."""
        await self._smtp.connect()
        if (refusal := await self._greet()) is not None:
            return refusal
        if self._settings.use_tls:
            self.stage = Stage.STARTTLS
            if not self._smtp.supports_extension("starttls"):
                text = "the server does not offer STARTTLS: correct MAIL_PORT (587), or use MAIL_USE_SSL (465)"
                return misconfigured(self.stage, text)
            await self._smtp.starttls()
            if (refusal := await self._greet()) is not None:
                return refusal
        self.stage = Stage.AUTH
        return await self._login.take(self._smtp)

    async def _greet(self) -> Submission | None:
        self.stage = Stage.EHLO
        name = await self._own_name()
        try:
            await self._smtp.ehlo(hostname=name)
        except SMTPHeloError as error:
            if not _is_unknown(Reply(max(error.code, 0), error.message)):
                raise
            return await self._greet_without_extensions(name, error)
        has = self._smtp.supports_extension
        self.extensions = ServerExtensions(
            pipelining=has("pipelining"), size=has("size"), eightbit=has("8bitmime"), utf8=has("smtputf8")
        )
        return None

    async def _greet_without_extensions(self, name: str, error: SMTPHeloError) -> Submission | None:
        """HELO, for a server that does not know EHLO, and so has no extensions."""
        wanted = "STARTTLS" if self._settings.use_tls else "a login" if self._settings.username else None
        if wanted is not None:
            text = (
                f"the server answers EHLO with {error.code}, and so offers no {wanted.removeprefix('a ')}: correct "
                "MAIL_SERVER and MAIL_PORT, or unset MAIL_USE_TLS and MAIL_USERNAME"
            )
            return misconfigured(self.stage, text)
        try:
            await self._smtp.helo(hostname=name)
        except SMTPHeloError:
            # What it said of EHLO says more.
            raise error from None
        self.extensions = ServerExtensions()
        return None

    async def _own_name(self) -> str:
        """The name in the settings, else the host's full name, else its address (RFC 5321 §4.1.4)."""
        name = self._settings.local_hostname or await self._host.full()
        return name or literal(peer_address(self._smtp, "sockname"))


def _is_unknown(reply: Reply) -> bool:
    """True if the server does not know the command, as a reply by RFC 1869 §4.6 or an enhanced code for syntax says."""
    return reply.code in _NO_SUCH_COMMAND or (reply.code >= 500 and (reply.enhanced or "").startswith("5.5."))
