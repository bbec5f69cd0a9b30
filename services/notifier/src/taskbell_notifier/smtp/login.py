"""Logs sessions in: by password with CRAM-MD5, PLAIN or LOGIN, by access token with XOAUTH2."""

import base64
import binascii
import ipaddress
import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from aiosmtplib import SMTP, SMTPAuthenticationError, SMTPResponse, SMTPServerDisconnected, SMTPTimeoutError

from taskbell_notifier.smtp.oauth import FileTokens, ServerTokens, Token, Tokens
from taskbell_notifier.smtp.replies import Reply, Stage, Submission, Verdict, classify, clean, odd
from taskbell_notifier.smtp.settings import SmtpSettings

NO_SUCH_MECHANISM = frozenset({500, 501, 502, 504})
"""Replies to AUTH which say that the server lacks this mechanism, and nothing about the password."""

CONTINUE, WELCOME = 334, 235

PASSWORD_WAYS = ("CRAM-MD5", "PLAIN", "LOGIN")
TOKEN_WAY = "XOAUTH2"  # noqa: S105 - the name of a mechanism


class Login:
    """Logs in with the name in the settings; one for all sessions, which share the access token."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._tokens: Tokens | None = None
        if settings.oauth is not None and settings.oauth.token_file is not None:
            self._tokens = FileTokens(settings.oauth.token_file)
        elif settings.oauth is not None:
            self._tokens = ServerTokens(settings.oauth, ca_file=settings.ca_file)

    async def take(self, smtp: SMTP) -> Submission | None:
        """Logs in if the settings name somebody; None: nothing is wrong. Raises what aiosmtplib raises."""
        username = self._settings.username
        if not username:
            return None
        if smtp.get_transport_info("sslcontext") is None and not peer_address(smtp, "peername").is_loopback:
            what = "password" if self._tokens is None else "access token"
            text = f"the {what} would go in plain text: set MAIL_USE_TLS (port 587) or MAIL_USE_SSL (465)"
            return misconfigured(Stage.AUTH, text)
        offered = list(dict.fromkeys(way.upper() for way in smtp.server_auth_methods))
        if not set(offered) & ({TOKEN_WAY} if self._tokens else set(PASSWORD_WAYS)):
            return misconfigured(Stage.AUTH, self._nothing_in_common(smtp, offered))
        if self._tokens is not None:
            return await self._by_token(smtp, username, self._tokens)
        return await _by_password(smtp, username, self._settings.password or "")

    def _nothing_in_common(self, smtp: SMTP, offered: Sequence[str]) -> str:
        """What the server offers instead of what the settings ask for, and what to do."""
        if not offered:
            if smtp.supports_extension("starttls") and not (self._settings.use_tls or self._settings.use_ssl):
                return "the server offers no login before TLS: set MAIL_USE_TLS"
            return "the server offers no login: correct MAIL_PORT (587 with MAIL_USE_TLS), or unset MAIL_USERNAME"
        names = " ".join(offered)
        if self._tokens is not None:
            if set(offered) & set(PASSWORD_WAYS):
                return f"the server offers {names}, not {TOKEN_WAY}: set MAIL_PASSWORD in place of MAIL_OAUTH2_*"
            return f"the server offers {names}, not {TOKEN_WAY}: correct MAIL_SERVER, or unset MAIL_USERNAME"
        if TOKEN_WAY in offered:
            return f"the server offers {names} and takes no password: set MAIL_OAUTH2_* in place of MAIL_PASSWORD"
        known = ", ".join((*PASSWORD_WAYS, TOKEN_WAY))
        return f"the server offers {names}, we know {known}: let it offer one of them, or unset MAIL_USERNAME"

    async def _by_token(self, smtp: SMTP, username: str, tokens: Tokens) -> Submission | None:
        """A token from an earlier login may have been revoked since; then a new one is tried at once."""
        refusal: Submission | None = None
        while True:
            token = await tokens.get()
            if isinstance(token, Submission):
                return token
            try:
                found = await _present(smtp, username, token)
            except (SMTPServerDisconnected, SMTPTimeoutError):
                if refusal is None:
                    raise
                # The server refused the former token; that it then closed the connection adds nothing.
                return refusal
            if found is None:
                return None
            refusal = refusal or found
            tokens.forget()
            if not token.kept or found.verdict is not Verdict.CONFIGURATION_FAULT:
                return found


async def _present(smtp: SMTP, username: str, token: Token) -> Submission | None:
    """AUTH XOAUTH2; None: the server takes the token. Its reason for a refusal comes as a challenge, in base64."""
    answer = base64.b64encode(f"user={username}\x01auth=Bearer {token.value}\x01\x01".encode())
    response = await smtp.execute_command(b"AUTH", TOKEN_WAY.encode("ascii"), answer)
    # A server that does not read what stands behind the mechanism's name asks for it with an empty challenge.
    if response.code == CONTINUE and not response.message.strip():
        response = await smtp.execute_command(answer)
    said = ""
    if response.code == CONTINUE:
        said = _decoded(response.message)
        response = await smtp.execute_command(b"")
    if response.code == WELCOME:
        return None
    text = f"{_decoded(response.message) or response.message}{f' ({said})' if said else ''}"
    for secret in (answer.decode("ascii"), token.value):
        text = text.replace(secret, "<secret>")
    reply = Reply(max(response.code, 0), text)
    return classify(Stage.AUTH, reply) or odd(Stage.AUTH, reply)


def _decoded(text: str) -> str:
    """What a refusal in base64 says, `status 401, schemes bearer`; empty: the text is not base64."""
    try:
        found = base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    try:
        fields = json.loads(found)
    except ValueError:
        return found if found.isprintable() else ""
    return ", ".join(f"{name} {value}" for name, value in fields.items()) if isinstance(fields, dict) else found


async def _by_password(smtp: SMTP, username: str, password: str) -> Submission | None:
    ways: dict[str, Callable[[str, str], Awaitable[object]]] = {
        "CRAM-MD5": smtp.auth_crammd5,
        "PLAIN": partial(_plain, smtp),
        "LOGIN": partial(_login, smtp),
    }
    offered = {way.upper() for way in smtp.server_auth_methods}
    refusal: Submission | None = None
    for name in PASSWORD_WAYS:
        if name not in offered:
            continue
        try:
            await ways[name](username, password)
        except SMTPAuthenticationError as error:
            reply = Reply(max(error.code, 0), _without_password(error.message, username, password))
            verdict = classify(Stage.AUTH, reply) or odd(Stage.AUTH, reply)
            if refusal is None or refusal.code in NO_SUCH_MECHANISM:
                refusal = verdict
            if verdict.verdict is not Verdict.CONFIGURATION_FAULT:
                return refusal
        except (SMTPServerDisconnected, SMTPTimeoutError):
            if refusal is None or refusal.code in NO_SUCH_MECHANISM:
                raise
            # The server refused the password; that it then closed the connection adds nothing.
            return refusal
        else:
            return None
    return refusal


async def _plain(smtp: SMTP, username: str, password: str) -> None:
    """AUTH PLAIN (RFC 4616). Raises SMTPAuthenticationError if it is refused."""
    answer = base64.b64encode(f"\0{username}\0{password}".encode())
    response = await smtp.execute_command(b"AUTH", b"PLAIN", answer)
    # Some servers do not read what stands behind the mechanism's name, and ask for it.
    if response.code == CONTINUE:
        response = await smtp.execute_command(answer)
    _check_welcome(response)


async def _login(smtp: SMTP, username: str, password: str) -> None:
    """AUTH LOGIN, with the name at once. Raises SMTPAuthenticationError if it is refused."""
    name = base64.b64encode(username.encode())
    response = await smtp.execute_command(b"AUTH", b"LOGIN", name)
    # Some servers do not read it there, and ask for the name before the password.
    if response.code == CONTINUE and "user" in _decoded(response.message).lower():
        response = await smtp.execute_command(name)
    if response.code == CONTINUE:
        response = await smtp.execute_command(base64.b64encode(password.encode()))
    _check_welcome(response)


def _check_welcome(response: SMTPResponse) -> None:
    if response.code != WELCOME:
        raise SMTPAuthenticationError(response.code, response.message)


def misconfigured(stage: Stage, text: str) -> Submission:
    """A setting to correct, in words for an operator."""
    return Submission(Verdict.CONFIGURATION_FAULT, stage, text=clean(text))


def peer_address(smtp: SMTP, which: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address of one end of the connection, `peername` or `sockname`."""
    address = ipaddress.ip_address(smtp.get_transport_info(which)[0].partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _without_password(text: str, username: str, password: str) -> str:
    """The text without the password as AUTH PLAIN and LOGIN send it: a server may repeat a refused command."""
    if password:
        for secret in (f"\0{username}\0{password}", password):
            text = text.replace(base64.b64encode(secret.encode()).decode(), "<secret>")
    return text
