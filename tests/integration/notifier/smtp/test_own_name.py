"""The name that we give in EHLO, to a relay that hangs up on addresses and on names without a domain."""

import re
import socket
import threading

import pytest
from tests.integration.notifier.ledger.support import settings_for
from tests.integration.notifier.smtp.pool_harness import PROMPT_WAITS, Marker
from tests.support.odd_smtp import Dialect, OddSmtp

from taskbell.clock import SystemClock
from taskbell.errors import SettingsError
from taskbell_notifier.smtp import own_name as own_name_module
from taskbell_notifier.smtp.envelope import OutgoingMail
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.smtp.replies import Submission, Verdict
from taskbell_notifier.smtp.settings import SmtpSettings

DATABASE = "postgresql://nobody@127.0.0.1:9/none"


class Strict(OddSmtp):
    """Refuses an address, and a name without a domain."""

    def _usual(self, verb: str) -> str:
        if verb in ("EHLO", "HELO") and not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", self.lines[-1].split(" ")[1]):
            return "550 5.7.1 give the name of your host\r\n"
        return super()._usual(verb)


async def greeting(server: OddSmtp, settings: SmtpSettings) -> tuple[Submission, str]:
    """How a mail ended, and what the server was greeted with."""
    pool = SmtpPool(settings, SystemClock(), waits=PROMPT_WAITS)
    mail = OutgoingMail("bell@example.org", "ana@example.org", b"Subject: x\r\n\r\nHello.\r\n")
    found = await pool.submit(mail, Marker())
    await pool.close(1)
    return found, server.lines[0]


def named(monkeypatch: pytest.MonkeyPatch, name: str, full: str | OSError) -> list[str]:
    """Makes this the host's name, and that what DNS says of it; returns the names that DNS was asked about."""
    asked: list[str] = []

    def getfqdn(name: str = "") -> str:
        asked.append(name)
        if isinstance(full, OSError):
            raise full
        return full

    monkeypatch.setattr(socket, "gethostname", lambda: name)
    monkeypatch.setattr(socket, "getfqdn", getfqdn)
    return asked


@pytest.mark.parametrize(
    ("setting", "name", "full", "given"),
    [
        ("app.example.org", "web", "web.example.org", "app.example.org"),
        ("", "web.example.org", "other.example.org", "web.example.org"),
        ("", "web", "web.example.org", "web.example.org"),
        ("bücher.example.", "web", "web", "xn--bcher-kva.example"),
    ],
)
async def test_a_strict_relay_is_given_a_full_name(
    monkeypatch: pytest.MonkeyPatch, setting: str, name: str, full: str, given: str
) -> None:
    asked = named(monkeypatch, name, full)
    async with Strict(Dialect()) as server:
        settings = settings_for(DATABASE, smtp_port=server.port, mail_local_hostname=setting).smtp
        found, said = await greeting(server, settings)
        assert (found.verdict, said) == (Verdict.ACCEPTED, f"EHLO {given}")
    assert asked == (["web"] if name == "web" and not setting else [])


@pytest.mark.parametrize("name", ["web", "localhost", "localhost.localdomain", "a_b c", "-"])
@pytest.mark.parametrize("full", ["web", "localhost", "localhost.localdomain", "1.0.0.127.in-addr.arpa", OSError("no")])
async def test_a_host_without_a_full_name_gives_its_address(
    monkeypatch: pytest.MonkeyPatch, name: str, full: str | OSError
) -> None:
    named(monkeypatch, name, full)
    async with OddSmtp(Dialect()) as server:
        found, said = await greeting(server, SmtpSettings(server="127.0.0.1", port=server.port))
        assert (found.verdict, said) == (Verdict.ACCEPTED, "EHLO [127.0.0.1]")


async def test_a_lookup_that_hangs_holds_up_nothing_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(own_name_module, "LOOKUP_SECONDS", 0.05)
    monkeypatch.setattr(socket, "gethostname", lambda: "web")
    monkeypatch.setattr(socket, "getfqdn", lambda _: "web.example.org" if answered.wait(20) else "")
    async with OddSmtp(Dialect()) as server:
        found, said = await greeting(server, SmtpSettings(server="127.0.0.1", port=server.port))
        answered.set()
        assert (found.verdict, said) == (Verdict.ACCEPTED, "EHLO [127.0.0.1]")


@pytest.mark.parametrize(
    "name",
    ["two words", "a..b", "-a.example", "app.example.org\r\nMAIL", "[300.1.1.1]", "[app]", "a" * 64, "ö" * 80, "@"],
)
def test_a_setting_that_is_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"MAIL_LOCAL_HOSTNAME: must be a host name such as app\.example\.org"):
        settings_for(DATABASE, mail_local_hostname=name)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("relay-7", "relay-7"),
        (" app.example.org. ", "app.example.org"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
        ("[2001:db8::1]", "[IPv6:2001:db8::1]"),
    ],
)
def test_a_name_or_an_address_may_be_set(name: str, given: str) -> None:
    assert settings_for(DATABASE, mail_local_hostname=name).smtp.local_hostname == given
