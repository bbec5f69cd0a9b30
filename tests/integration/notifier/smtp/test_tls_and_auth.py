"""Encryption, and to whom the password is told."""

import base64
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest
from tests.integration.notifier.smtp.pool_harness import OpenHarness
from tests.support.scripted_smtp import Certificate, ScriptedSmtp
from tests.support.waiting import eventually

from taskbell.errors import SettingsError
from taskbell_notifier.smtp.breaker import BreakerState
from taskbell_notifier.smtp.replies import Stage, Verdict
from taskbell_notifier.smtp.settings import SmtpSettings

CREDENTIALS = {"username": "taskbell", "password": "secret word"}


def secure(server: ScriptedSmtp, certificate: Certificate, tls: str) -> dict[str, Any]:
    """Makes the server speak TLS; answers the settings that fit."""
    assert tls in ("starttls", "implicit")
    server.tls = "starttls" if tls == "starttls" else "implicit"
    server.certificate = certificate
    return {
        "use_tls": tls == "starttls",
        "use_ssl": tls == "implicit",
        "ca_file": str(certificate.certificate),
        "server": "localhost",
    }


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("pipelining", [True, False])
async def test_mail_goes_out_encrypted(
    tls: str, pipelining: bool, certificate: Certificate, open_harness: OpenHarness
) -> None:
    server = ScriptedSmtp(pipelining=pipelining, users={"taskbell": "secret word"})
    settings = secure(server, certificate, tls)
    async with server:
        harness = await open_harness(server, **settings, **CREDENTIALS)
        for _ in range(3):
            assert (await harness.send(body=b"x" * 60_000 + b"\r\n")).verdict is Verdict.ACCEPTED
        (connection,) = server.connections
        assert connection.encrypted
        assert connection.user == "taskbell"
        assert await harness.pool.close(5) == 0


async def test_starttls_is_required_not_hoped_for(open_harness: OpenHarness, server: ScriptedSmtp) -> None:
    harness = await open_harness(server, use_tls=True, **CREDENTIALS)
    submission = await harness.send()
    assert (submission.verdict, submission.stage) == (Verdict.CONFIGURATION_FAULT, Stage.STARTTLS)
    assert "MAIL_PORT" in submission.reason
    assert b"AUTH" not in server.connections[0].received
    assert b"MAIL" not in server.connections[0].received


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("wrong", ["authority", "name"])
async def test_a_certificate_that_cannot_be_verified_is_refused(
    tls: str, wrong: str, certificate: Certificate, open_harness: OpenHarness
) -> None:
    server = ScriptedSmtp()
    settings = secure(server, certificate, tls)
    if wrong == "authority":
        settings["ca_file"] = None
    else:
        settings["server"] = "127.0.0.2"  # reaches the same machine, but is not in the certificate
    server.host = "0.0.0.0"
    async with server:
        harness = await open_harness(server, **settings, **CREDENTIALS)
        submission = await harness.send()
        assert submission.verdict is Verdict.CONFIGURATION_FAULT
        assert submission.stage is (Stage.STARTTLS if tls == "starttls" else Stage.CONNECT)
        assert "MAIL_CA_FILE" in submission.reason
        assert all(b"AUTH" not in connection.received for connection in server.connections)


async def test_a_file_of_authorities_that_is_not_there_is_named(
    certificate: Certificate, open_harness: OpenHarness, tmp_path: Path
) -> None:
    server = ScriptedSmtp()
    settings = secure(server, certificate, "starttls") | {"ca_file": str(tmp_path / "missing.pem")}
    async with server:
        harness = await open_harness(server, **settings)
        submission = await harness.send()
        assert submission.verdict is Verdict.CONFIGURATION_FAULT
        assert "MAIL_CA_FILE cannot be used: No such file or directory" in submission.reason
        assert server.opened == 0


async def test_a_file_of_authorities_put_right_is_read_without_a_restart(
    certificate: Certificate, open_harness: OpenHarness, tmp_path: Path
) -> None:
    server = ScriptedSmtp()
    path = tmp_path / "authorities.pem"
    other = tmp_path / "other"
    other.mkdir()
    path.write_bytes(Certificate.make(other).certificate.read_bytes())
    settings = secure(server, certificate, "starttls") | {"ca_file": str(path)}
    async with server:
        harness = await open_harness(server, **settings)
        assert (await harness.send()).verdict is Verdict.CONFIGURATION_FAULT
        path.write_bytes(certificate.certificate.read_bytes())
        await eventually(lambda: harness.pool.breaker.status.allows_sending)
        assert (await harness.send()).verdict is Verdict.ACCEPTED


async def test_plain_text_where_tls_is_spoken_is_a_server_fault(
    certificate: Certificate, open_harness: OpenHarness
) -> None:
    server = ScriptedSmtp()
    secure(server, certificate, "implicit")
    async with server:
        harness = await open_harness(server, timeout=0.5)
        assert (await harness.send()).verdict is Verdict.SERVER_FAULT


async def test_tls_where_plain_text_is_spoken_is_a_server_fault(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, use_ssl=True)
    submission = await harness.send()
    assert (submission.verdict, submission.stage) == (Verdict.SERVER_FAULT, Stage.CONNECT)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_the_password_goes_in_plain_text_to_this_machine(
    mechanism: str, open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    server.users, server.mechanisms = {"taskbell": "secret word"}, (mechanism,)
    harness = await open_harness(server, **CREDENTIALS)
    assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert server.connections[0].user == "taskbell"


async def test_the_password_never_goes_in_plain_text_to_another_machine(
    open_harness: OpenHarness, server: ScriptedSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = aiosmtplib.SMTP.get_transport_info

    def elsewhere(smtp: aiosmtplib.SMTP, key: str) -> Any:
        return ("192.0.2.1", 25) if key == "peername" else known(smtp, key)

    monkeypatch.setattr(aiosmtplib.SMTP, "get_transport_info", elsewhere)
    server.users = {"taskbell": "secret word"}
    harness = await open_harness(server, **CREDENTIALS)
    submission = await harness.send()
    assert (submission.verdict, submission.stage) == (Verdict.CONFIGURATION_FAULT, Stage.AUTH)
    assert "MAIL_USE_TLS" in submission.reason
    assert "MAIL_USE_SSL" in submission.reason
    assert b"AUTH" not in server.connections[0].received


async def test_a_wrong_password_is_a_configuration_fault_whatever_follows_it(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    server.users = {"taskbell": "another"}
    server.rule("AUTH", reply="421 4.7.0 too many errors", drop=True, after=1)
    server.rule("AUTH", reply="535 5.7.8 wrong", times=1)
    harness = await open_harness(server, **CREDENTIALS)
    submission = await harness.send()
    assert (submission.verdict, submission.code) == (Verdict.CONFIGURATION_FAULT, 535)


async def test_a_mechanism_that_the_server_announced_in_vain_is_passed_over(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    server.users, server.mechanisms = {"taskbell": "secret word"}, ("CRAM-MD5", "LOGIN")
    harness = await open_harness(server, **CREDENTIALS)
    assert (await harness.send()).verdict is Verdict.ACCEPTED
    assert server.connections[0].verbs[1:3] == ["AUTH", "AUTH"]


async def test_a_server_fault_after_a_mechanism_in_vain_is_a_server_fault(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    server.users, server.mechanisms = {"taskbell": "secret word"}, ("PLAIN", "LOGIN")
    server.rule("AUTH", reply="504 5.5.4 no such mechanism", times=1)
    server.rule("AUTH", reply="454 4.7.0 directory down")
    harness = await open_harness(server, **CREDENTIALS)
    submission = await harness.send()
    assert (submission.verdict, submission.code) == (Verdict.SERVER_FAULT, 454)


async def test_a_server_that_knows_no_passwords_is_a_setting_to_mend(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    harness = await open_harness(server, **CREDENTIALS)
    submission = await harness.send()
    assert (submission.verdict, submission.stage) == (Verdict.CONFIGURATION_FAULT, Stage.AUTH)
    assert "MAIL_USERNAME" in submission.reason


async def test_a_server_that_repeats_what_it_was_told_does_not_put_the_password_into_the_reason(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    server.users = {"taskbell": "secret word"}
    both = base64.b64encode(b"\0taskbell\0secret word").decode()
    alone = base64.b64encode(b"secret word").decode()
    server.rule("AUTH", reply=f"535 5.7.8 wrong: AUTH PLAIN {both} {alone}")
    harness = await open_harness(server, **CREDENTIALS)
    submission = await harness.send()
    assert submission.text == "wrong: AUTH PLAIN <secret> <secret>"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"use_tls": True, "use_ssl": True}, "MAIL_USE_SSL"),
        ({"username": "taskbell"}, "MAIL_PASSWORD"),
        ({"server": "mail\r\nQUIT"}, "MAIL_SERVER"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        SmtpSettings(**settings)


def test_settings_do_not_show_the_password() -> None:
    assert "secret" not in repr(SmtpSettings(username="taskbell", password="secret"))


async def test_while_the_password_is_wrong_nothing_is_sent_and_once_it_is_right_all_is(
    open_harness: OpenHarness, server: ScriptedSmtp
) -> None:
    server.users = {"taskbell": "another"}
    harness = await open_harness(server, **CREDENTIALS)
    assert (await harness.send()).verdict is Verdict.CONFIGURATION_FAULT
    assert harness.pool.breaker.state is BreakerState.CONFIGURATION_FAULT
    assert (await harness.send()).verdict is Verdict.PAUSED
    server.users = {"taskbell": "secret word"}
    await eventually(lambda: harness.pool.breaker.status.allows_sending)
    assert (await harness.send()).verdict is Verdict.ACCEPTED
