"""Every test here reads the bytes that would go over the wire."""

import quopri
import re
from datetime import timedelta, timezone
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.kinds import MAILINGS, OVERDUE, REPORT, TEST, WEEKLY, name
from tests.unit.notifier.mail.samples import (
    FRIDAY_EIGHT,
    HOSTILE_TITLES,
    LANGUAGES,
    UNSUBSCRIBE_URL,
    address,
    bodies,
    of_kind,
    parsed,
    written,
)

from taskbell.kinds import Kind
from taskbell_notifier.kinds.table import OWN
from taskbell_notifier.mail import headers, mime
from taskbell_notifier.mail.mime import MailWriter
from taskbell_notifier.mail.render import Rendered, Renderer
from taskbell_notifier.smtp.envelope import with_crlf, with_dots

body = st.text(st.characters(exclude_categories=["Cs"]), max_size=400) | st.lists(
    st.sampled_from(
        [
            *"=.- \t\n\r_?",
            "\r\n",
            "\n\n",
            "--=_taskbell",
            "--=_taskbell--",
            "From ",
            "é",
            "👍",
            "x" * 75,
            "=3D",
            "a" * 37,
        ]
    )
).map("".join)


def newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@given(st.text(max_size=200), body, st.lists(body, max_size=6))
def test_what_the_standard_librarys_parser_reads_is_what_was_written(subject: str, text: str, html: list[str]):
    writer = MailWriter(address("bell@example.com", "Taskbell"))
    raw = written(writer, OVERDUE, Rendered(subject, text, tuple(html)))
    message = parsed(raw)
    assert message["Subject"] == headers.subject_text(subject)
    assert message.get_content_type() == "multipart/alternative"
    assert bodies(raw) == (newlines(text), "".join(map(newlines, html)))
    assert max(map(len, raw.split(b"\r\n"))) <= 78
    assert with_dots(with_crlf(raw)) == raw  # nothing is left to the transport


@pytest.mark.parametrize("length", [24, 25, 26, 37, 38, 74, 75, 76])
@pytest.mark.parametrize("letter", ["x", "=", "é", " "])
def test_short_pieces_of_html_keep_to_the_line_length(writer: MailWriter, letter: str, length: int):
    html = (letter * length, "b", letter * length, "\n")
    raw = written(writer, OVERDUE, Rendered("s", "t\n", html))
    assert max(map(len, raw.split(b"\r\n"))) <= 78
    assert bodies(raw)[1] == "".join(html)


@pytest.mark.parametrize("blank", [" ", "\t"])
@pytest.mark.parametrize("length", range(70, 80))
@pytest.mark.parametrize("after", ["", "\n", "\nmore"])
def test_a_blank_at_the_end_of_a_line_makes_it_no_longer_than_allowed(length: int, blank: str, after: str):
    text = "x" * length + blank + after
    encoded = mime.quoted_printable(text)
    assert max(map(len, encoded.split(b"\r\n"))) <= 76
    assert quopri.decodestring(encoded) == text.replace("\n", "\r\n").encode()


@pytest.mark.parametrize("last", ["x", "=", "é", " ", "\t", "."])
@pytest.mark.parametrize("length", range(66, 80))
def test_a_piece_of_any_length_ends_with_a_soft_break_in_a_line_of_at_most_76(length: int, last: str):
    text = "x" * length + last
    encoded = mime.quoted_printable_part(text)
    assert encoded.endswith(b"=\r\n")
    assert max(map(len, encoded.split(b"\r\n"))) <= 76
    assert quopri.decodestring(encoded + b"end") == text.encode() + b"end"


@pytest.mark.parametrize("end", ["", "é", "=", ".", "é.", ".."])
@pytest.mark.parametrize("length", range(66, 80))
def test_no_line_begins_with_a_dot_however_long_it_is(length: int, end: str):
    for text in (f".{'x' * length}{end}", f"a\n.{'x' * length}{end}\n..\n."):
        for encoded in (mime.quoted_printable(text), mime.quoted_printable_part(text)):
            lines = encoded.split(b"\r\n")
            assert not any(line.startswith(b".") for line in lines)
            assert max(map(len, lines)) <= 76
            assert quopri.decodestring(encoded).decode().replace("\r\n", "\n") == text


@given(body)
def test_quoted_printable_keeps_to_its_line_length(text: str):
    encoded = mime.quoted_printable(text)
    assert all(len(line) <= 76 for line in encoded.split(b"\r\n"))
    assert b"\n" not in encoded.replace(b"\r\n", b"")


@given(st.lists(body, max_size=6))
def test_pieces_encoded_apart_keep_to_the_line_length_together(pieces: list[str]):
    encoded = b"".join(map(mime.quoted_printable_part, pieces))
    assert all(len(line) <= 76 for line in encoded.split(b"\r\n"))
    assert encoded == b"" or encoded.endswith(b"\r\n")


@pytest.mark.parametrize("kind", OWN, ids=name)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_mail_is_text_then_html_in_quoted_printable(
    renderer: Renderer, writer: MailWriter, kind: Kind, language: str
):
    rendered = of_kind(renderer, kind, language)
    raw = written(writer, kind, rendered)
    text, html = parsed(raw).iter_parts()
    for part, content_type in ((text, "text/plain"), (html, "text/html")):
        assert part.get_content_type() == content_type
        assert part.get_content_charset() == "utf-8"
        assert part["Content-Transfer-Encoding"] == "quoted-printable"
    assert bodies(raw) == (rendered.text, rendered.html)
    assert raw.isascii()
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert max(map(len, raw.split(b"\r\n"))) <= 78 + len(UNSUBSCRIBE_URL)


@pytest.mark.parametrize("kind", OWN, ids=name)
def test_every_mail_carries_exactly_these_headers(renderer: Renderer, writer: MailWriter, kind: Kind):
    url = UNSUBSCRIBE_URL if kind in MAILINGS else None
    message = parsed(written(writer, kind, of_kind(renderer, kind), url))
    unsubscription = ["List-Unsubscribe", "List-Unsubscribe-Post"] if url else []
    assert sorted(message.keys()) == sorted(
        [
            *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress", "List-Id"),
            *unsubscription,
            *("MIME-Version", "Content-Type"),
        ]
    )
    assert message["From"] == "Taskbell <bell@example.com>"
    assert message["To"] == "Ana Müller <ana@example.com>"
    assert message["Message-ID"] == f"<{kind.name}.4711@example.com>"
    assert parsedate_to_datetime(message["Date"]) == FRIDAY_EIGHT
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "OOF, AutoReply"
    assert message["List-Id"] == f"<{kind.name}.taskbell.example.com>"
    assert message["MIME-Version"] == "1.0"


@pytest.mark.parametrize("length", [40, 75, 76, 77, 78, 200, 900])
def test_a_list_unsubscribe_url_of_any_length_stays_one_plain_line(renderer: Renderer, writer: MailWriter, length: int):
    url = ("https://taskbell.example.com/u/" + "a" * 900)[:length]
    raw = written(writer, WEEKLY, of_kind(renderer, WEEKLY), url)
    head = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert f"List-Unsubscribe: <{url}>".encode() in head
    assert b"List-Unsubscribe-Post: List-Unsubscribe=One-Click" in head


@pytest.mark.parametrize(
    "url", ["", "http:/x", "ftp://x/y", "https://x/a b", "https://x/\r\nBcc: y", "https://x/ü", "https://x/>"]
)
def test_what_is_no_url_is_not_written_into_a_header(renderer: Renderer, writer: MailWriter, url: str):
    with pytest.raises(ValueError, match="the unsubscribe URL must"):
        written(writer, WEEKLY, of_kind(renderer, WEEKLY), url)


@pytest.mark.parametrize("kind", [REPORT, TEST], ids=name)
def test_reports_and_test_mails_have_no_unsubscription(renderer: Renderer, writer: MailWriter, kind: Kind):
    with pytest.raises(ValueError, match="no unsubscription"):
        written(writer, kind, of_kind(renderer, kind), UNSUBSCRIBE_URL)


@pytest.mark.parametrize("title", HOSTILE_TITLES, ids=ascii)
@pytest.mark.parametrize("kind", OWN, ids=name)
def test_no_title_or_name_adds_a_header_a_part_or_a_recipient(
    renderer: Renderer, writer: MailWriter, kind: Kind, title: str
):
    rendered = of_kind(renderer, kind, title=title, count=1)
    raw = writer.write(
        kind,
        rendered,
        to=address("ana@example.com", title),
        message_id=f"<{kind.name}.1@example.com>",
        date=FRIDAY_EIGHT,
    )
    message = parsed(raw)
    assert len(message.keys()) == 10
    assert [to.addr_spec for to in message["To"].addresses] == ["ana@example.com"]
    assert len(list(message.iter_parts())) == 2
    assert message["Subject"] == rendered.subject
    assert bodies(raw) == (rendered.text, rendered.html)
    assert max(map(len, re.split(rb"\r\n", raw))) <= 100


def test_the_date_is_that_of_the_try_to_the_second(renderer: Renderer, writer: MailWriter):
    rendered = of_kind(renderer, TEST)
    moment = (FRIDAY_EIGHT + timedelta(seconds=5, microseconds=999_999)).astimezone(timezone(timedelta(hours=1)))
    for _ in range(2):
        raw = writer.write(TEST, rendered, to=address("a@example.com"), message_id="<test.1@example.com>", date=moment)
        assert b"\r\nDate: Fri, 20 Nov 2026 08:00:05 +0100\r\n" in raw
