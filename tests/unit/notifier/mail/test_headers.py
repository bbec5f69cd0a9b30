import re
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.parser import BytesParser
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.notifier.mail.samples import address

from taskbell_notifier.mail import headers

PIECES = (
    *("=?utf-8?q?x?=", "=?", "?=", "\r\n", "\n", "\r", "\x00", "a", "B", " ", "  ", "é", "漢", "👨‍👩‍👧", "\u202e"),
    *('"', "\\", "<", ">", "@", ",", ";", "(", ")", ".", "_", "=", "%s", "\ud800", "long" * 30, "\u2028", "\x85"),
    *("مرحبا", "\r\nBcc: victim@example.com", "e" + "\u0301" * 50),
)
hostile_text = st.text(st.characters(), max_size=300) | st.lists(st.sampled_from(PIECES)).map("".join)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("ana@example.com", "ana@example.com"),
        ("  Ana.O'Neil+tasks@Mail.Example.COM ", "Ana.O'Neil+tasks@Mail.Example.COM"),
        ("root@localhost", "root@localhost"),
        ("a@1.example", "a@1.example"),
        ("info@bücher.example", "info@xn--bcher-kva.example"),
        ("info@straße.example", "info@xn--strae-oqa.example"),  # IDNA 2008; the older form is another domain
        ("info@BÜCHER.Example", "info@xn--bcher-kva.example"),
        ("info@例え.テスト", "info@xn--r8jz45g.xn--zckzah"),
        ("x" * 64 + "@example.com", "x" * 64 + "@example.com"),
        ("a..b@docomo.ne.jp", '"a..b"@docomo.ne.jp'),
        ("ana@example.com\n", "ana@example.com"),
    ],
)
def test_an_address_that_mail_can_be_sent_to_is_valid(text: str, spec: str):
    valid = headers.valid_address(text)
    assert valid is not None
    assert valid.addr_spec == spec


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", " ", "ana", "@example.com", "ana@", "ana@@example.com", "a b@example.com", "ana@exa mple.com"),
        *("ana@example.com\r\nRCPT TO:<x@y.z>", "ana@exam\nple.com", "a\tna@example.com", "ana\x00@example.com"),
        *("ana@example.com,bob@example.com", "ana@example.com bob@example.com", "Ana <ana@example.com>"),
        *("<ana@example.com>", '"ana"b@example.com', "ana(x)@example.com", "ana@[127.0.0.1]", "ana@-x.example"),
        *("ana@example.com..", "ana@.example.com", "ana@ex..com", '""@example.com', '"a\nb"@x.de', '"müller"@x.de'),
        *("müller@example.com", "ana@example_-.com", "ana@" + "x" * 64 + ".com", "x" * 65 + "@example.com"),
        *("a@" + "b." * 126 + "example", "ana@xn--\u00fc", "ana@\u202eexample.com", "ana@\ud800.com"),
    ],
)
def test_what_our_smtp_path_cannot_carry_is_no_valid_address(text: str | None):
    assert headers.valid_address(text) is None


@given(hostile_text | st.tuples(hostile_text, hostile_text).map("@".join))
def test_whatever_is_accepted_is_plain_ascii_without_anything_that_could_end_it(text: str):
    valid = headers.valid_address(text)
    if valid is not None:
        assert valid.addr_spec.isascii()
        assert valid.addr_spec.isprintable()
        outside = re.sub(r'^"(?:[^"\\]|\\.)*"', "", valid.addr_spec)
        assert not set(outside) & set(' <>",;:\\()[]')


def test_a_sender_may_carry_a_name():
    sender = headers.parse_sender("Taskbell Müller <bell@example.com>")
    assert (sender.display_name, sender.addr_spec) == ("Taskbell Müller", "bell@example.com")
    assert headers.parse_sender("bell@example.com") == Address(addr_spec="bell@example.com")
    assert headers.parse_sender('"Bell, Task" <bell@bücher.example>').domain == "xn--bcher-kva.example"


@pytest.mark.parametrize("text", ["", "Taskbell", "Taskbell <bell>", "a@b.c, d@e.f", "Bell <müller@example.com>"])
def test_a_sender_without_a_valid_address_is_refused_with_an_example(text: str):
    with pytest.raises(ValueError, match=r"must look like Taskbell <taskbell@example\.com>"):
        headers.parse_sender(text)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("Acme, Inc. <bell@example.com>", '"Acme, Inc." <bell@example.com>'),
        ("Müller; Söhne <bell@bücher.example>", '"Müller; Söhne" <bell@bücher.example>'),
        ("Bell [test] <bell@example.com>", '"Bell [test]" <bell@example.com>'),
        ("ops@example.com <bell@example.com>", '"ops@example.com" <bell@example.com>'),
        ('Acme, "the" Inc. <bell@example.com>', '"Acme, the Inc." <bell@example.com>'),
    ],
)
def test_a_sender_whose_name_lacks_quotes_is_refused_with_the_quotes_that_it_needs(text: str, quoted: str):
    with pytest.raises(ValueError, match=re.escape(f"has a name that needs quotes, such as {quoted}")):
        headers.parse_sender(text)
    assert headers.parse_sender(quoted).display_name == quoted.split('"')[1]


def test_a_sender_may_have_an_address_that_needs_quotes():
    sender = headers.parse_sender("Bell <b..ell@example.com>")
    assert (sender.display_name, sender.addr_spec) == ("Bell", '"b..ell"@example.com')
    assert headers.mailbox("From", sender) == b'From: Bell <"b..ell"@example.com>\r\n'


@pytest.mark.parametrize("value", ["", "x@y", "<x>", "<a b@c>", "<a@b>\r\nBcc: c@d", "<a@b>\n", "<ü@b>", "<a@b@c<>"])
def test_what_is_no_message_id_is_not_written(value: str):
    with pytest.raises(ValueError, match="not a Message-ID"):
        headers.checked_message_id(value)


def test_a_message_id_of_a_long_domain_is_written_whole():
    # RFC 1035 §2.3.4 allows 253 characters, RFC 5322 §2.1.1 lines of 998
    value = f"<overdue.{2**63 - 1}@{'.'.join(['a' * 49] * 5)}>"
    assert headers.checked_message_id(value) == value.encode()


def lines_of(field: bytes) -> list[bytes]:
    assert field.endswith(b"\r\n")
    assert field.count(b"\r") == field.count(b"\n") == field.count(b"\r\n")
    lines = field[:-2].split(b"\r\n")
    assert all(line.startswith(b" ") for line in lines[1:])
    return lines


@given(hostile_text)
def test_every_subject_is_read_back_exactly_and_adds_no_header(text: str):
    subject = headers.subject_text(text)
    field = headers.unstructured("Subject", subject)
    assert max(map(len, lines_of(field))) <= 78
    message = BytesParser(policy=default).parsebytes(field + b"X-End: 1\r\n\r\n")
    assert message.keys() == ["Subject", "X-End"]
    assert message["Subject"] == subject


@pytest.mark.parametrize(
    ("subject", "field"),
    [
        ("4 overdue tasks", b"Subject: 4 overdue tasks\r\n"),
        ("Überfällig", b"Subject: =?utf-8?b?w5xiZXJmw6RsbGln?=\r\n"),
        ("Bericht über die Woche von Ana", b"Subject: =?utf-8?q?Bericht_=C3=BCber_die_Woche_von_Ana?=\r\n"),
        ("дела", b"Subject: =?utf-8?b?0LTQtdC70LA=?=\r\n"),
        ("=?utf-8?q?x?=", b"Subject: =?utf-8?b?PT91dGYtOD9xP3g/PQ==?=\r\n"),
        (
            "one two three four five six seven eight nine ten eleven twelve thirteen four",
            b"Subject: one two three four five six seven eight nine ten eleven twelve\r\n thirteen four\r\n",
        ),
    ],
)
def test_subjects_are_plain_where_they_can_be(subject: str, field: bytes):
    assert headers.unstructured("Subject", subject) == field


@given(hostile_text)
def test_every_display_name_is_read_back_exactly_with_one_address(name: str):
    to = address("ana@example.com", name)
    field = headers.mailbox("To", to)
    assert max(map(len, lines_of(field))) <= 78
    message = BytesParser(policy=default).parsebytes(field + b"X-End: 1\r\n\r\n")
    assert message.keys() == ["To", "X-End"]
    (read,) = message["To"].addresses
    assert read.addr_spec == "ana@example.com"
    if field.count(b"=?") > 1:
        # This parser leaves a blank between two encoded words of a display name, against RFC 2047 §6.2.
        phrase = field.removeprefix(b"To: ").rpartition(b"<")[0].strip()
        assert str(make_header(decode_header(phrase.decode().replace("\r\n", "\n")))) == to.display_name
    else:
        assert read.display_name == to.display_name


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("", b"To: ana@example.com\r\n"),
        ("Ana", b"To: Ana <ana@example.com>\r\n"),
        ("Müller, Ana Maria von", b"To: =?utf-8?q?M=C3=BCller=2C_Ana_Maria_von?= <ana@example.com>\r\n"),
        ('Ana "the\\ one" B.', b'To: "Ana \\"the\\\\ one\\" B." <ana@example.com>\r\n'),
    ],
)
def test_display_names_are_quoted_or_encoded_as_needed(name: str, field: bytes):
    assert headers.mailbox("To", address("ana@example.com", name)) == field


def test_a_long_address_stands_on_a_line_of_its_own():
    local = "x" * 60
    assert headers.mailbox("To", address(f"{local}@example.com", "Ana Example")) == (
        f"To: Ana Example\r\n <{local}@example.com>\r\n".encode()
    )
