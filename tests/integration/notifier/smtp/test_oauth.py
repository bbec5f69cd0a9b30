"""Logins by access token: where tokens come from, how long they are kept, and what is said of a refusal."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.notifier.smtp.pool_harness import PROMPT_WAITS, Marker
from tests.support.odd_smtp import Dialect, OddSmtp
from tests.support.scripted_smtp import Certificate
from tests.support.token_server import TokenServer

from taskbell.clock import SystemClock
from taskbell.errors import SettingsError
from taskbell_notifier.smtp import oauth as oauth_module
from taskbell_notifier.smtp.envelope import OutgoingMail
from taskbell_notifier.smtp.oauth import OAuthSettings
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.smtp.replies import Stage, Submission, Verdict
from taskbell_notifier.smtp.settings import SmtpSettings

SECRET, REFRESH = "s3cret-of-the-client", "r3fresh-token"


class TokenSmtp(OddSmtp):
    """Takes logins by XOAUTH2 with one of the tokens in `valid`; says why as a challenge in base64 if it does not."""

    def __init__(self, *valid: str, offers: str = "XOAUTH2") -> None:
        super().__init__(Dialect(ehlo=["mx.example", f"AUTH {offers}"]))
        self.valid = set(valid)
        self.presented: list[str] = []
        self.reason = base64.b64encode(json.dumps({"status": "401", "schemes": "bearer"}).encode()).decode()

    def _usual(self, verb: str) -> str:
        if verb == "AUTH":
            user, bearer = base64.b64decode(self.lines[-1].split(" ")[2]).decode().split("\x01")[:2]
            assert user == "user=bell@example.org"
            self.presented.append(bearer.removeprefix("auth=Bearer "))
            return "235 2.7.0 welcome\r\n" if self.presented[-1] in self.valid else f"334 {self.reason}\r\n"
        return "535 5.7.8 not accepted\r\n" if verb == "" else super()._usual(verb)


class Sender:
    """A pool that logs in with these settings, and hands over one mail after another."""

    def __init__(self, server: OddSmtp, oauth: OAuthSettings, **settings: Any) -> None:
        given = {"server": "127.0.0.1", "port": server.port, "timeout": 5, "username": "bell@example.org"}
        self.pool = SmtpPool(SmtpSettings(oauth=oauth, **given | settings), SystemClock(), waits=PROMPT_WAITS)

    async def send(self) -> Submission:
        mail = OutgoingMail("bell@example.org", "ana@example.org", b"Subject: x\r\n\r\nHello.\r\n")
        return await self.pool.submit(mail, Marker())


@asynccontextmanager
async def sender(server: OddSmtp, oauth: OAuthSettings, **settings: Any) -> AsyncIterator[Sender]:
    made = Sender(server, oauth, **settings)
    try:
        yield made
    finally:
        await made.pool.close(1)


def client(tokens: TokenServer, **given: str) -> OAuthSettings:
    """A client that asks with its own credentials."""
    return OAuthSettings(token_url=tokens.url, client_id="bell", **{"client_secret": SECRET} | given)


@pytest.fixture
def trusting(certificate: Certificate) -> dict[str, Any]:
    """Settings of a pool that trusts the token server."""
    return {"ca_file": str(certificate.certificate)}


async def test_a_file_is_read_at_each_login(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    async with (
        TokenSmtp("first", "second") as server,
        sender(server, OAuthSettings(token_file=str(file)), mails_per_session=1) as it,
    ):
        assert (await it.send()).verdict is Verdict.ACCEPTED
        file.write_text("second")
        assert (await it.send()).verdict is Verdict.ACCEPTED
        assert server.presented == ["first", "second"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "MAIL_OAUTH2_TOKEN_FILE cannot be read: No such file or directory"),
        ("", "MAIL_OAUTH2_TOKEN_FILE holds no access token"),
        ('{"access_token": "x"}', "MAIL_OAUTH2_TOKEN_FILE holds no access token"),
        ("tokén", "MAIL_OAUTH2_TOKEN_FILE holds no access token"),
    ],
)
async def test_a_file_without_a_token_is_a_setting_to_correct(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "token"
    if text is not None:
        file.write_text(text)
    async with TokenSmtp() as server, sender(server, OAuthSettings(token_file=str(file))) as it:
        found = await it.send()
        assert (found.verdict, found.stage) == (Verdict.CONFIGURATION_FAULT, Stage.AUTH)
        assert said in found.reason
        assert server.presented == []


async def test_a_client_asks_with_its_own_credentials_and_once_for_all_sessions(
    certificate: Certificate, trusting: dict[str, Any]
) -> None:
    async with (
        TokenServer(certificate) as tokens,
        TokenSmtp("token-1") as server,
        sender(server, client(tokens, scope="mail"), mails_per_session=1, **trusting) as it,
    ):
        for _ in range(3):
            assert (await it.send()).verdict is Verdict.ACCEPTED
        assert tokens.asked == [
            {"grant_type": "client_credentials", "client_id": "bell", "client_secret": SECRET, "scope": "mail"}
        ]
        assert server.presented == ["token-1"] * 3


async def test_a_refresh_token_stays_the_one_in_the_settings(
    certificate: Certificate, trusting: dict[str, Any]
) -> None:
    async with (
        TokenServer(certificate) as tokens,
        TokenSmtp("token-1", "token-2") as server,
        sender(
            server,
            OAuthSettings(token_url=tokens.url, client_id="bell", refresh_token=REFRESH),
            mails_per_session=1,
            **trusting,
        ) as it,
    ):
        tokens.more = {"expires_in": 0, "refresh_token": "another"}
        for _ in range(2):
            assert (await it.send()).verdict is Verdict.ACCEPTED
        assert tokens.asked == [{"grant_type": "refresh_token", "client_id": "bell", "refresh_token": REFRESH}] * 2


@pytest.mark.parametrize(("life", "asked"), [(3600, 1), ("3600", 1), (None, 1), (0, 2), (-5, 2), ("0", 2)])
async def test_a_token_is_kept_as_long_as_it_lives(
    certificate: Certificate, trusting: dict[str, Any], life: object, asked: int
) -> None:
    async with (
        TokenServer(certificate) as tokens,
        TokenSmtp("token-1", "token-2") as server,
        sender(server, client(tokens), mails_per_session=1, **trusting) as it,
    ):
        tokens.more = {} if life is None else {"expires_in": life}
        for _ in range(2):
            assert (await it.send()).verdict is Verdict.ACCEPTED
        assert len(tokens.asked) == asked


async def test_a_kept_token_that_was_revoked_is_replaced_at_once(
    certificate: Certificate, trusting: dict[str, Any]
) -> None:
    async with (
        TokenServer(certificate) as tokens,
        TokenSmtp("token-1") as server,
        sender(server, client(tokens), mails_per_session=1, **trusting) as it,
    ):
        assert (await it.send()).verdict is Verdict.ACCEPTED
        server.valid = {"token-2"}
        assert (await it.send()).verdict is Verdict.ACCEPTED
        assert server.presented == ["token-1", "token-1", "token-2"]


async def test_a_refusal_is_shown_decoded_and_without_the_token(
    certificate: Certificate, trusting: dict[str, Any]
) -> None:
    async with (
        TokenServer(certificate) as tokens,
        TokenSmtp() as server,
        sender(server, client(tokens), **trusting) as it,
    ):
        found = await it.send()
        assert (found.verdict, found.code) == (Verdict.CONFIGURATION_FAULT, 535)
        assert found.reason == "AUTH: 535 5.7.8 not accepted (status 401, schemes bearer)"
        assert len(tokens.asked) == 1
        server.dialect = Dialect({"AUTH": f"535 {server.reason} token-2\r\n"}, ehlo=server.dialect.ehlo)
        assert "token-" not in str(await it.pool.check())


async def test_a_refusal_in_base64_at_once_is_decoded_too(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("any")
    said = base64.b64encode(b'{"status": "400"}').decode()
    server = OddSmtp(Dialect({"AUTH": f"535 {said}\r\n"}, ehlo=["mx", "AUTH XOAUTH2"]))
    async with server, sender(server, OAuthSettings(token_file=str(tmp_path / "token"))) as it:
        assert (await it.send()).reason == "AUTH: 535 status 400"


async def test_a_server_that_asks_for_the_token_after_the_mechanism_gets_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("any")
    answer = base64.b64encode(b"user=bell@example.org\x01auth=Bearer any\x01\x01").decode()
    replies = {"AUTH": "334 \r\n", answer.upper(): "235 welcome\r\n"}
    server = OddSmtp(Dialect(replies, ehlo=["mx", "AUTH XOAUTH2"]))
    async with server, sender(server, OAuthSettings(token_file=str(tmp_path / "token"))) as it:
        assert (await it.send()).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("answer", "verdict", "said"),
    [
        (
            (400, json.dumps({"error": "invalid_client", "error_description": f"no such secret {SECRET}"})),
            Verdict.CONFIGURATION_FAULT,
            "the token server refuses MAIL_OAUTH2_CLIENT_ID: 400 invalid_client: no such secret <secret>",
        ),
        ((401, "go away"), Verdict.CONFIGURATION_FAULT, "the token server refuses MAIL_OAUTH2_CLIENT_ID: 401"),
        ((200, "<html>"), Verdict.CONFIGURATION_FAULT, "has no access_token: correct MAIL_OAUTH2_TOKEN_URL"),
        ((200, '{"access_token": "a b"}'), Verdict.CONFIGURATION_FAULT, "has no access_token"),
        ((429, "{}"), Verdict.SERVER_FAULT, "the token server does not answer: 429"),
        ((503, "down"), Verdict.SERVER_FAULT, "the token server does not answer: 503"),
    ],
)
async def test_what_a_token_server_says_is_told_and_no_secret(
    certificate: Certificate, trusting: dict[str, Any], answer: tuple[int, str], verdict: Verdict, said: str
) -> None:
    async with (
        TokenServer(certificate) as tokens,
        TokenSmtp() as server,
        sender(server, client(tokens), **trusting) as it,
    ):
        tokens.answer = answer
        found = await it.send()
        assert (found.verdict, found.stage) == (verdict, Stage.AUTH)
        assert said in found.reason
        assert SECRET not in repr(found)
        assert server.presented == []


async def test_a_redirect_is_not_followed(certificate: Certificate, trusting: dict[str, Any]) -> None:
    async with (
        TokenServer(certificate) as tokens,
        TokenSmtp() as server,
        sender(server, client(tokens), **trusting) as it,
    ):
        tokens.answer, tokens.headers = (307, ""), {"Location": tokens.url.replace("/token", "/elsewhere")}
        assert (await it.send()).verdict is Verdict.CONFIGURATION_FAULT
        assert set(tokens.paths) == {"/token"}


async def test_a_token_server_that_nobody_vouches_for_gets_no_secret(certificate: Certificate) -> None:
    async with TokenServer(certificate) as tokens, TokenSmtp() as server, sender(server, client(tokens)) as it:
        found = await it.send()
        assert found.verdict is Verdict.CONFIGURATION_FAULT
        assert "the token server's certificate is not trusted" in found.reason
        assert tokens.asked == []


async def test_a_token_server_that_is_away_is_a_server_fault(
    certificate: Certificate, trusting: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with TokenServer(certificate) as tokens:
        gone = client(tokens)
    async with TokenSmtp() as server, sender(server, gone, **trusting) as it:
        found = await it.send()
        assert found.verdict is Verdict.SERVER_FAULT
        assert "the token server does not answer" in found.reason
    monkeypatch.setattr(oauth_module, "ASK_SECONDS", 0.000_001)
    async with (
        TokenServer(certificate) as tokens,
        TokenSmtp() as server,
        sender(server, client(tokens), **trusting) as it,
    ):
        assert (await it.send()).verdict is Verdict.SERVER_FAULT


@pytest.mark.parametrize(
    ("offers", "login", "said"),
    [
        ("XOAUTH2", {"password": "x"}, "offers XOAUTH2 and takes no password: set MAIL_OAUTH2_* in place of"),
        ("GSSAPI NTLM", {"password": "x"}, "offers GSSAPI NTLM, we know CRAM-MD5, PLAIN, LOGIN, XOAUTH2"),
        ("", {"password": "x"}, "offers no login: correct MAIL_PORT (587 with MAIL_USE_TLS), or unset MAIL_USERNAME"),
        ("PLAIN LOGIN", {}, "offers PLAIN LOGIN, not XOAUTH2: set MAIL_PASSWORD in place of MAIL_OAUTH2_*"),
        ("GSSAPI", {}, "offers GSSAPI, not XOAUTH2: correct MAIL_SERVER, or unset MAIL_USERNAME"),
    ],
)
async def test_the_mechanisms_that_the_server_offers_are_named(offers: str, login: dict[str, str], said: str) -> None:
    ehlo = ["mx.example", "SIZE", *([f"AUTH {offers}"] if offers else [])]
    given = login or {"oauth": OAuthSettings(token_file="/nowhere")}
    async with OddSmtp(Dialect(ehlo=ehlo)) as server:
        settings = SmtpSettings(server="127.0.0.1", port=server.port, username="bell@example.org", **given)
        pool = SmtpPool(settings, SystemClock(), waits=PROMPT_WAITS)
        found = await pool.check()
        await pool.close(1)
        assert found is not None
        assert found.verdict is Verdict.CONFIGURATION_FAULT
        assert said in found.reason


async def test_a_login_that_is_offered_after_starttls_alone_is_said_so() -> None:
    async with OddSmtp(Dialect(ehlo=["mx.example", "STARTTLS"])) as server:
        settings = SmtpSettings(server="127.0.0.1", port=server.port, username="bell", password="x")
        pool = SmtpPool(settings, SystemClock(), waits=PROMPT_WAITS)
        found = await pool.check()
        await pool.close(1)
        assert found is not None
        assert found.reason == "AUTH: the server offers no login before TLS: set MAIL_USE_TLS"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"token_url": "http://tokens.example/", "client_id": "a", "client_secret": "b"}, "must begin with https://"),
        ({"token_url": "https:///", "client_id": "a", "client_secret": "b"}, "must begin with https://"),
        ({"token_url": "https://t.example/", "token_file": "/t"}, "keep one of them"),
        ({"token_url": "https://t.example/", "client_secret": "b"}, "without MAIL_OAUTH2_CLIENT_ID"),
        ({"token_url": "https://t.example/", "client_id": "a"}, "without MAIL_OAUTH2_CLIENT_SECRET"),
        ({"client_id": "a"}, "MAIL_OAUTH2_TOKEN_URL is not set"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        OAuthSettings(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [({"username": "bell", "password": "x"}, "MAIL_PASSWORD and MAIL_OAUTH2_"), ({}, "without MAIL_USERNAME")],
)
def test_a_token_needs_a_mailbox_and_no_password(given: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        SmtpSettings(oauth=OAuthSettings(token_file="/t"), **given)


def test_settings_do_not_show_secrets() -> None:
    shown = repr(OAuthSettings(token_url="https://t/", client_id="a", client_secret=SECRET, refresh_token=REFRESH))
    assert SECRET not in shown
    assert REFRESH not in shown
