"""The dialects that docs/mail-servers.md lists, each spoken by a server of its own."""

import re
from pathlib import Path
from typing import Any

import pytest
from tests.integration.notifier.smtp.pool_harness import PROMPT_WAITS, Marker
from tests.support.odd_smtp import EHLO, Dialect, OddSmtp

from taskbell.clock import SystemClock
from taskbell_notifier.smtp.envelope import OutgoingMail
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.smtp.replies import Stage, Submission, Verdict
from taskbell_notifier.smtp.settings import SmtpSettings

PAGE = Path(__file__).parents[4] / "docs" / "mail-servers.md"
SILENCE = 0.5
"""Seconds that a pool waits for a server that has lost a command."""
LONG = "x" * 7_000


def without(extension: str) -> tuple[str, ...]:
    """What the usual server says to EHLO, without this extension."""
    return tuple(line for line in EHLO if not line.startswith(extension))


# By the name that the page gives it, a server to which a mail must go out at once, with one try.
SPOKEN: dict[str, Dialect] = {
    "greeting of several lines": Dialect({"": "220-mx.example ESMTP\r\n220-no spam\r\n220 welcome\r\n"}),
    "late greeting": Dialect(wait=SILENCE / 2),
    "EHLO unknown: 500": Dialect({"EHLO": "500 Command unrecognized\r\n"}),
    "EHLO unknown: 501": Dialect({"EHLO": "501 syntax\r\n"}),
    "EHLO unknown: 502": Dialect({"EHLO": "502 5.5.1 Command not implemented\r\n"}),
    "EHLO unknown: 503": Dialect({"EHLO": "503 bad sequence\r\n"}),
    "EHLO unknown: 504": Dialect({"EHLO": "504 not implemented\r\n"}),
    "EHLO unknown: 550 5.5.1": Dialect({"EHLO": "550 5.5.1 Invalid command\r\n"}),
    "EHLO without extensions": Dialect(ehlo=["mx.example"]),
    "EHLO without text": Dialect({"EHLO": "250\r\n"}),
    "extensions in small letters": Dialect(ehlo=["mx", "pipelining", "size 1000000", "8bitmime"]),
    "blanks around extensions": Dialect(ehlo=["mx ", " PIPELINING  ", "SIZE   1000000 ", " 8BITMIME "]),
    "empty line among extensions": Dialect(ehlo=["mx", "PIPELINING", "", "8BITMIME"]),
    "lines that end with LF": Dialect(line_end="\n"),
    "replies without text": Dialect(
        {"": "220\r\n", "MAIL": "250\r\n", "RCPT": "250\r\n", "DATA": "354\r\n", ".": "250\r\n"}
    ),
    "replies without text, with a blank": Dialect({"MAIL": "250 \r\n", "RCPT": "250 \r\n", "DATA": "354 \r\n"}),
    "replies of several lines": Dialect({"MAIL": "250-sender\r\n250 ok\r\n", ".": "250-queued\r\n250-as\r\n250 7\r\n"}),
    "overlong lines": Dialect({"EHLO": f"250-mx\r\n250-{LONG}\r\n250 SIZE\r\n", "RCPT": f"250 {LONG}\r\n"}),
    "no enhanced codes": Dialect({"MAIL": "250 ok\r\n", "RCPT": "250 ok\r\n", ".": "250 ok\r\n"}),
    "no PIPELINING": Dialect(ehlo=without("PIPELINING")),
    "no 8BITMIME": Dialect(ehlo=without("8BITMIME")),
    "no SIZE": Dialect(ehlo=without("SIZE")),
    "SIZE 0, or no number": Dialect(ehlo=["mx", "SIZE 0", "SIZE", "PIPELINING"]),
    "CHUNKING and BINARYMIME": Dialect(ehlo=[*EHLO, "CHUNKING", "BINARYMIME"]),
    "unknown extensions": Dialect(ehlo=[*EHLO, "XCLIENT NAME ADDR", "X-ANONYMOUSTLS", "LIMITS RCPTMAX=1"]),
    "251 at RCPT": Dialect({"RCPT": "251 2.1.5 will forward\r\n"}),
    "252 at RCPT": Dialect({"RCPT": "252 2.1.5 cannot verify\r\n"}),
    "another 3xx at DATA": Dialect({"DATA": "350 go on\r\n"}),
    "QUIT answered by a close": Dialect(quit=""),
    "421 at QUIT": Dialect(quit="421 4.4.2 too slow\r\n"),
    "PIPELINING, but only the first command is read": Dialect(keeps=1),
    "PIPELINING, but the last command is lost": Dialect(keeps=2),
    "PIPELINING, but the second command is lost": Dialect(loses=1),
    "PIPELINING, but 503 to what comes together": Dialect(refuses_groups="503 5.5.1 bad sequence of commands\r\n"),
    "PIPELINING, but 500 to what comes together": Dialect(refuses_groups="500 5.5.2 error\r\n"),
    "PIPELINING, but 554 to what comes together": Dialect(refuses_groups="554 SMTP synchronization error\r\n"),
    "PIPELINING, but a close": Dialect(hangs_up=True),
}
# By name, a server that does not take the mail, and the verdict; the mail was not sent and nobody has failed for it.
NOT_TAKEN: dict[str, tuple[Dialect, Verdict]] = {
    "DATA answered 250": (Dialect({"DATA": "250 ok\r\n"}), Verdict.RETRY),
    "421 at RCPT": (Dialect({"RCPT": "421 4.7.0 enough\r\n"}), Verdict.THROTTLED),
    "421 at DATA": (Dialect({"DATA": "421 4.7.0 enough\r\n"}), Verdict.THROTTLED),
    "421 at the final dot": (Dialect({".": "421 4.7.0 enough\r\n"}), Verdict.THROTTLED),
    "452 4.5.3 at MAIL": (Dialect({"MAIL": "452 4.5.3 too many\r\n"}), Verdict.THROTTLED),
    "452 4.5.3 at RCPT": (Dialect({"RCPT": "452 4.5.3 too many\r\n"}), Verdict.THROTTLED),
}
# By name, what the server offers to those who log in, and the reply to AUTH; each lets us in.
LOGINS: dict[str, tuple[list[str], dict[str, str]]] = {
    "AUTH= in the old form": (["mx", "AUTH=LOGIN PLAIN"], {}),
    "AUTH in both forms": (["mx", "AUTH LOGIN PLAIN", "AUTH=LOGIN PLAIN"], {}),
    "AUTH last, and LOGIN first": (["mx", "AUTH LOGIN PLAIN"], {}),
    "AUTH in small letters, with blanks": (["mx", "auth   login   plain "], {}),
    "AUTH LOGIN that asks for the name again": (
        ["mx", "AUTH LOGIN"],
        {"AUTH": "334 VXNlcm5hbWU6\r\n", "BELL": "334 UGFzc3dvcmQ6\r\n", "SECRET": "235 welcome\r\n"},
    ),
    "AUTH PLAIN that asks for its answer": (["mx", "AUTH PLAIN"], {"AUTH": "334 \r\n", "BOTH": "235 welcome\r\n"}),
}
# What the lines after AUTH are in base64, so that a dialect can answer each by its verb.
ANSWERS = {"BELL": "YmVsbA==", "SECRET": "c2VjcmV0", "BOTH": "AGJlbGwAc2VjcmV0"}


async def hand_over(server: OddSmtp, mails: int = 1, **settings: Any) -> list[Submission]:
    """Hands mails over, one after another, by one pool; its marker is asked for at most once a mail."""
    given = {"server": "127.0.0.1", "port": server.port, "timeout": SILENCE, "data_timeout": SILENCE, "pool_size": 1}
    pool = SmtpPool(SmtpSettings(**given | settings), SystemClock(), waits=PROMPT_WAITS)
    found = []
    for number in range(mails):
        marker = Marker()
        mail = OutgoingMail("bell@example.org", f"ana{number}@example.org", b"Subject: x\r\n\r\nHello.\r\n")
        found.append(await pool.submit(mail, marker))
        assert marker.calls <= 1
    await pool.close(1)
    return found


@pytest.mark.parametrize("dialect", SPOKEN.values(), ids=SPOKEN)
async def test_mails_go_out_once_each_with_one_try(dialect: Dialect) -> None:
    async with OddSmtp(dialect) as server:
        found = await hand_over(server, 3)
        assert [it.verdict for it in found] == [Verdict.ACCEPTED] * 3, found
        assert [recipient for recipient, _ in server.mails] == [f"<ana{number}@example.org>" for number in range(3)]


@pytest.mark.parametrize(("dialect", "verdict"), NOT_TAKEN.values(), ids=NOT_TAKEN)
async def test_a_mail_is_not_sent_and_its_recipient_is_not_at_fault(
    dialect: Dialect, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskbell_notifier.smtp.pool.THROTTLED_TRIES", 2)
    async with OddSmtp(dialect) as server:
        (found,) = await hand_over(server)
        assert found.verdict is verdict
        assert server.mails == []


@pytest.mark.parametrize(("ehlo", "replies"), LOGINS.values(), ids=LOGINS)
async def test_we_log_in(ehlo: list[str], replies: dict[str, str]) -> None:
    said = {ANSWERS.get(verb, verb).upper(): reply for verb, reply in replies.items()}
    async with OddSmtp(Dialect(said, ehlo=ehlo)) as server:
        (found,) = await hand_over(server, username="bell", password="secret")
        assert found.verdict is Verdict.ACCEPTED, found
        asked_for = [ANSWERS[verb] for verb in replies if verb in ANSWERS]
        assert [line for line in server.lines if line in ANSWERS.values()] == asked_for


@pytest.mark.parametrize(
    "name", [name for name in SPOKEN if name.startswith("PIPELINING, but")], ids=lambda name: name.partition(", ")[2]
)
async def test_a_server_that_loses_commands_is_told_one_at_a_time_from_then_on(name: str) -> None:
    async with OddSmtp(SPOKEN[name]) as server:
        found = await hand_over(server, 5)
        assert [it.verdict for it in found] == [Verdict.ACCEPTED] * 5
        # One connection for the loss, one for all that follows.
        assert server.connections == 2


async def test_a_server_that_is_slow_is_not_taken_for_one_that_loses_commands() -> None:
    silent = Dialect({"RCPT": "", "DATA": ""})
    async with OddSmtp(silent) as server:
        (found,) = await hand_over(server)
        assert (found.verdict, found.stage) == (Verdict.RETRY, Stage.RCPT)
        assert server.connections == 2
        found_next = await hand_over(server, 2)
        # It was tried one by one in vain, so the next mail is not tried twice again.
        assert [it.verdict for it in found_next] == [Verdict.RETRY] * 2
        assert server.connections == 5


async def test_no_recipient_fails_for_a_refusal_that_may_be_of_another_command() -> None:
    # The reply to RCPT is missing, and that to DATA would be taken for it.
    async with OddSmtp(Dialect({"RCPT": ""})) as server:
        found = await hand_over(server, 2)
        assert [it.verdict for it in found] == [Verdict.RETRY] * 2
        assert server.mails == []


async def test_a_server_that_refuses_recipients_in_odd_words_is_not_taken_for_one_that_loses_commands() -> None:
    async with OddSmtp(Dialect({"RCPT": "501 5.1.3 bad address\r\n"})) as server:
        # The same to three people in a row would pause sending.
        found = await hand_over(server, 2)
        assert [(it.verdict, it.code) for it in found] == [(Verdict.FAILED, 501)] * 2
        assert server.connections == 2
        together = [verb for verb in server.verbs if verb in ("MAIL", "RCPT", "DATA")]
        # One by one, DATA would not have followed.
        assert together[-3:] == ["MAIL", "RCPT", "DATA"]


async def test_a_mail_whose_message_was_begun_stays_uncertain_and_is_not_sent_again() -> None:
    lost = Dialect({".": ""})
    async with OddSmtp(lost) as server:
        (found,) = await hand_over(server)
        assert (found.verdict, found.stage) == (Verdict.UNKNOWN, Stage.MESSAGE)
        assert server.connections == 1
        assert server.verbs.count("DATA") == 1


@pytest.mark.parametrize("wanted", [{"use_tls": True}, {"username": "bell", "password": "secret"}])
async def test_helo_is_not_sent_if_tls_or_a_login_is_wanted(wanted: dict[str, Any]) -> None:
    async with OddSmtp(SPOKEN["EHLO unknown: 502"]) as server:
        (found,) = await hand_over(server, **wanted)
        assert (found.verdict, found.stage) == (Verdict.CONFIGURATION_FAULT, Stage.EHLO)
        assert "the server answers EHLO with 502" in found.reason
        assert "MAIL_USE_TLS" in found.reason
        assert "MAIL_USERNAME" in found.reason
        assert "HELO" not in server.verbs


async def test_a_server_that_refuses_helo_too_is_named_with_what_it_said_of_ehlo() -> None:
    refusing = Dialect({"EHLO": "502 5.5.1 not here\r\n", "HELO": "550 5.7.1 go away\r\n"})
    async with OddSmtp(refusing) as server:
        (found,) = await hand_over(server)
        assert (found.verdict, found.reason) == (Verdict.SERVER_FAULT, "EHLO: 502 5.5.1 not here")


async def test_mails_go_on_at_once_on_a_new_session_if_the_server_ends_the_one_that_they_are_on() -> None:
    class Generous(OddSmtp):
        """Takes three mails a connection, and ends it at RCPT of the fourth."""

        def _usual(self, verb: str) -> str:
            left = len(self.mails) - 3 * (self.connections - 1)
            return "421 4.7.0 three a session\r\n" if verb == "RCPT" and left == 3 else super()._usual(verb)

    async with Generous(Dialect()) as server:
        found = await hand_over(server, 12)
        assert [it.verdict for it in found] == [Verdict.ACCEPTED] * 12
        assert server.connections == 4


def test_the_page_lists_every_dialect_that_is_tested_and_no_other() -> None:
    table = re.search(r"<!-- dialects -->\n(.*?)<!-- end -->", PAGE.read_text(), re.DOTALL)
    assert table
    listed = [line.split("|")[1].strip() for line in table[1].splitlines() if re.match(r"\| [^-]", line)][1:]
    assert listed == [*SPOKEN, *NOT_TAKEN, *LOGINS]
