"""What goes over the wire for a mail."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbell_notifier.smtp.envelope import (
    Order,
    OutgoingMail,
    ServerExtensions,
    lay_out,
    mailbox,
    refused_addresses,
    with_crlf,
)
from taskbell_notifier.smtp.replies import Stage, Submission, Verdict

ALL = ServerExtensions(pipelining=True, size=True, eightbit=True, utf8=True)


def received(written: bytes) -> bytes:
    """What a server makes of the bytes after its 354, line by line as RFC 5321 §4.5.2 tells it."""
    lines = written.split(b"\r\n")
    taken: list[bytes] = []
    for number, line in enumerate(lines):
        assert b"\r" not in line
        assert b"\n" not in line
        if line == b".":
            assert lines[number + 1 :] == [b""], "the final dot comes last"
            return b"".join(taken)
        taken.append((line[1:] if line.startswith(b".") else line) + b"\r\n")
    raise AssertionError("no final dot")


def order(envelope: OutgoingMail, extensions: ServerExtensions = ALL) -> Order:
    laid = lay_out(envelope, extensions)
    assert isinstance(laid, Order)
    return laid


@given(st.lists(st.sampled_from([b".", b"..", b"\r", b"\n", b"\r\n", b"a", b" ", b"-"]), max_size=30).map(b"".join))
def test_a_server_gets_the_message_back_line_by_line(message: bytes) -> None:
    lines = re.split(rb"\r\n|\r|\n", message)
    if lines[-1] == b"":
        lines.pop()
    expected = b"".join(line + b"\r\n" for line in lines)
    assert received(order(OutgoingMail("a@example.org", "b@example.org", message)).message) == expected


def test_a_second_message_cannot_be_smuggled_in() -> None:
    written = order(
        OutgoingMail("a@example.org", "b@example.org", b"x\n.\nMAIL FROM:<evil@example.org>\r.\rRCPT\r\n.\n")
    ).message
    assert written == b"x\r\n..\r\nMAIL FROM:<evil@example.org>\r\n..\r\nRCPT\r\n..\r\n.\r\n"


def test_crlf_is_left_as_it_is() -> None:
    message = b"Subject: x\r\n\r\nbody\r\n"
    assert with_crlf(message) is message


def test_size_counts_the_message_without_dots_added_by_the_transport() -> None:
    laid = order(OutgoingMail("a@example.org", "b@example.org", b".x\n"))  # ".x" CRLF: four octets (RFC 1870 §3)
    assert laid.mail == b"MAIL FROM:<a@example.org> SIZE=4\r\n"
    assert laid.rcpt == b"RCPT TO:<b@example.org>\r\n"


def test_a_server_that_announces_nothing_gets_no_parameters() -> None:
    laid = order(OutgoingMail("a@example.org", "b@example.org", b"x\r\n"), ServerExtensions())
    assert laid.mail == b"MAIL FROM:<a@example.org>\r\n"


def test_parameters_follow_the_message_and_the_addresses() -> None:
    laid = order(OutgoingMail("a@example.org", "jörg@example.org", "grüß\r\n".encode()))
    assert laid.mail == b"MAIL FROM:<a@example.org> SIZE=8 BODY=8BITMIME SMTPUTF8\r\n"
    assert laid.rcpt == "RCPT TO:<jörg@example.org>\r\n".encode()


def test_an_international_domain_alone_needs_no_smtputf8() -> None:
    laid = order(OutgoingMail("a@example.org", "b@bücher.example", b"x\r\n"), ServerExtensions())
    assert laid.rcpt == b"RCPT TO:<b@xn--bcher-kva.example>\r\n"


@pytest.mark.parametrize(
    ("envelope", "stage"),
    [
        (OutgoingMail("a@example.org", "jörg@example.org", b"x\r\n"), Stage.RCPT),
        (OutgoingMail("a@example.org", "b@example.org", "grüß\r\n".encode()), Stage.MAIL),
    ],
)
def test_what_the_server_cannot_take_fails_for_good(envelope: OutgoingMail, stage: Stage) -> None:
    laid = lay_out(envelope, ServerExtensions())
    assert isinstance(laid, Submission)
    assert (laid.verdict, laid.stage) == (Verdict.FAILED, stage)


@pytest.mark.parametrize(
    "address",
    ["a@example.org", "first.last+tag@sub.example.org", '"a b"@example.org', "o'hara@example.org", "a@[192.0.2.1]"],
)
def test_usual_addresses_pass_as_they_are(address: str) -> None:
    assert mailbox(address) == address.encode()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nobody",
        "@example.org",
        "a@",
        "a b@example.org",
        "a@exa mple.org",
        "a@example.org>",
        "<a@example.org>",
        "Ann <a@example.org>",
        "a@example.org\r\nRCPT TO:<b@example.org>",
        "a@example.org\n",
        "a@example.org SIZE=1",
        "a\x00@example.org",
        '"a\r\nb"@example.org',
        "a@b@example.org",
        "a,b@example.org",
        "a@example.org,b@example.org",
        "a@\u2028example.org",
        "x" * 250 + "@example.org",
        "a@" + "é" * 300 + ".org",
    ],
)
def test_what_is_no_address_never_reaches_a_server(address: str) -> None:
    assert mailbox(address) is None
    refused = refused_addresses(OutgoingMail("a@example.org", address, b"x\r\n"))
    assert refused is not None
    assert refused.verdict is Verdict.FAILED
    assert refused.text == "no valid address"


def test_a_sender_that_is_no_address_is_a_setting_to_mend() -> None:
    refused = refused_addresses(OutgoingMail("Taskbell", "b@example.org", b"x\r\n"))
    assert refused is not None
    assert refused.verdict is Verdict.CONFIGURATION_FAULT
    assert "MAIL_DEFAULT_SENDER" in refused.reason


@given(st.text(max_size=300))
def test_whatever_an_address_holds_it_stays_on_its_line(address: str) -> None:
    octets = mailbox(address)
    if octets is not None:
        assert not re.search(rb"[\x00-\x1f\x7f<>]", re.sub(rb'^"(?:[^"\\]|\\.)*"', b"", octets))
        assert re.search(rb"[\r\n\x00]", octets) is None
