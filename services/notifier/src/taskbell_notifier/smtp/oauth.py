"""Access tokens for XOAUTH2: from a file, or from a token server (RFC 6749 §4.4 and §6).

The token server is asked over https alone. Its token is kept in memory until shortly before it expires; nothing that it
sends, such as a refresh token in place of the former one, is stored.
"""

import asyncio
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from taskbell.errors import SettingsError
from taskbell_notifier.smtp.replies import Stage, Submission, Verdict, clean

ASK_SECONDS = 10.0
"""How long a token server may take."""
ANSWER_LIMIT = 65_536
"""Bytes of an answer that are read."""
MARGIN = 60.0
"""A token is replaced so many seconds before it expires; a shorter-lived one (twice that or less), at half its life."""
UNSAID_LIFE = 300.0
"""Seconds that a token is used whose life the server does not say."""

_PASSING = frozenset({408, 425, 429})
"""Answers which say that asking again later may help; so do those of 500 and above."""


@dataclass(frozen=True, slots=True)
class OAuthSettings:
    """The MAIL_OAUTH2_* settings: a file, or a token server.

    Raises:
        SettingsError: two of them contradict each other, or one is missing.
    """

    token_file: str | None = None
    """A file with an access token, read at each login; something else keeps it fresh."""
    token_url: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    """Asked with instead of the client's own credentials."""
    scope: str | None = None

    def __post_init__(self) -> None:
        if self.token_file is not None:
            if self.token_url is not None:
                msg = "MAIL_OAUTH2_TOKEN_FILE and MAIL_OAUTH2_TOKEN_URL are both set: keep one of them"
                raise SettingsError(msg)
            return
        if self.token_url is None:
            msg = (
                "MAIL_OAUTH2_TOKEN_URL is not set: it is the token server that the other MAIL_OAUTH2_ settings are for"
            )
            raise SettingsError(msg)
        if urlsplit(self.token_url).scheme != "https" or not urlsplit(self.token_url).hostname:
            msg = f"MAIL_OAUTH2_TOKEN_URL must begin with https://, because secrets are sent there: {self.token_url!r}"
            raise SettingsError(msg)
        if self.client_id is None:
            msg = "MAIL_OAUTH2_TOKEN_URL is set without MAIL_OAUTH2_CLIENT_ID: set both"
            raise SettingsError(msg)
        if self.client_secret is None and self.refresh_token is None:
            msg = (
                "MAIL_OAUTH2_TOKEN_URL is set without MAIL_OAUTH2_CLIENT_SECRET (or _FILE) and without "
                "MAIL_OAUTH2_REFRESH_TOKEN (or _FILE): set the one that your provider gave you"
            )
            raise SettingsError(msg)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token."""

    value: str = field(repr=False)
    kept: bool
    """It was got for an earlier login, so a refusal may only say that it was revoked since."""


class Tokens(Protocol):
    """Where access tokens come from."""

    async def get(self) -> Token | Submission:
        """A token to log in with now, or why there is none: a server or configuration fault."""

    def forget(self) -> None:
        """The mail server has refused the token, so it is not used again."""


class FileTokens:
    """Access tokens from a file, which is read at each login."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    async def get(self) -> Token | Submission:
        try:
            text = await asyncio.to_thread(self._path.read_text, encoding="ascii", errors="replace")
        except OSError as error:
            return _misconfigured(f"MAIL_OAUTH2_TOKEN_FILE cannot be read: {error.strerror or error}")
        token = text.strip()
        if not _is_token(token):
            return _misconfigured("MAIL_OAUTH2_TOKEN_FILE holds no access token: it must be the token and nothing else")
        return Token(token, kept=False)

    def forget(self) -> None:
        """Nothing is kept."""


class ServerTokens:
    """Access tokens from a token server.

    Args:
        ca_file: PEM file of authorities to trust besides the system's.
    """

    def __init__(self, settings: OAuthSettings, *, ca_file: str | None = None) -> None:
        assert settings.token_url is not None
        self._url = settings.token_url
        self._ca_file = ca_file
        self._secrets = tuple(filter(None, (settings.client_secret, settings.refresh_token)))
        wanted = {
            "grant_type": "client_credentials" if settings.refresh_token is None else "refresh_token",
            "client_id": settings.client_id,
            "client_secret": settings.client_secret,
            "refresh_token": settings.refresh_token,
            "scope": settings.scope,
        }
        self._fields = {name: value for name, value in wanted.items() if value is not None}
        self._kept: str | None = None
        self._until = 0.0
        # Sessions that are opened at the same time ask once.
        self._asking = asyncio.Lock()

    async def get(self) -> Token | Submission:
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if self._kept is not None and now < self._until:
                return Token(self._kept, kept=True)
            self._kept = None
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    status, answer = await asyncio.to_thread(_post, self._url, self._fields, self._ca_file)
            except TimeoutError:
                return _unreachable("no answer in time")
            except ssl.SSLCertVerificationError as error:
                return _misconfigured(
                    f"the token server's certificate is not trusted ({error.verify_message}): correct "
                    "MAIL_OAUTH2_TOKEN_URL, or add its authority to MAIL_CA_FILE"
                )
            except (OSError, HTTPException) as error:
                return _unreachable(str(error) or type(error).__name__)
            return self._read(status, answer, now)

    def forget(self) -> None:
        self._kept = None

    def _read(self, status: int, answer: Mapping[str, Any], now: float) -> Token | Submission:
        token = answer.get("access_token")
        if status != 200 or not isinstance(token, str) or not _is_token(token):
            return self._refused(status, answer)
        life = _seconds(answer.get("expires_in"))
        self._kept, self._until = token, now + life - min(MARGIN, life / 2)
        return Token(token, kept=False)

    def _refused(self, status: int, answer: Mapping[str, Any]) -> Submission:
        said = ": ".join(str(answer[name]) for name in ("error", "error_description") if answer.get(name))
        for secret in self._secrets:
            said = said.replace(secret, "<secret>")
        if status >= 500 or status in _PASSING:
            return _unreachable(f"{status} {said}".strip())
        if status == 200:
            return _misconfigured("the token server's answer has no access_token: correct MAIL_OAUTH2_TOKEN_URL")
        return _misconfigured(f"the token server refuses MAIL_OAUTH2_CLIENT_ID: {status} {said or 'without words'}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected answer is the answer: what is posted has secrets, and is for the configured server alone."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _post(url: str, fields: Mapping[str, str], ca_file: str | None) -> tuple[int, Mapping[str, Any]]:
    """The status and the JSON object of the answer. Blocks for up to ASK_SECONDS at each step."""
    trust = ssl.create_default_context()
    if ca_file is not None:
        trust.load_verify_locations(cafile=ca_file)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trust), _NoRedirects())
    request = urllib.request.Request(  # noqa: S310 - the settings allow https alone
        url, data=urlencode(fields).encode("ascii"), headers={"Accept": "application/json"}
    )
    try:
        with opener.open(request, timeout=ASK_SECONDS) as response:
            return response.status, _object(response.read(ANSWER_LIMIT))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _object(error.read(ANSWER_LIMIT))
    except urllib.error.URLError as error:
        # Its cause says more: a refused certificate, a name that leads nowhere.
        raise error.reason if isinstance(error.reason, OSError) else error from None


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_token(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _seconds(value: object) -> float:
    """A life that the server says, also as text."""
    try:
        return max(float(value), 0.0) if isinstance(value, int | float | str) else UNSAID_LIFE
    except ValueError:
        return UNSAID_LIFE


def _misconfigured(text: str) -> Submission:
    return Submission(Verdict.CONFIGURATION_FAULT, Stage.AUTH, text=clean(text))


def _unreachable(text: str) -> Submission:
    return Submission(Verdict.SERVER_FAULT, Stage.AUTH, text=clean(f"the token server does not answer: {text}"))
