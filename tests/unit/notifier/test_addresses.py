"""Addresses that people have: each form is read as it was meant, and all forms of one address have one key."""

from email.parser import BytesParser
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbell_notifier.addresses import normal_form, other_spellings, read_address, split_addresses
from taskbell_notifier.mail import headers
from taskbell_notifier.smtp.envelope import mailbox

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=64)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("try..this@docomo.ne.jp", '"try..this"@docomo.ne.jp'),
        ("xxx.yyy.@docomo.ne.jp", '"xxx.yyy."@docomo.ne.jp'),
        (".ana@ezweb.ne.jp", '".ana"@ezweb.ne.jp'),
        ('"a..b"@docomo.ne.jp', '"a..b"@docomo.ne.jp'),
        ('"ana maria"@example.com', '"ana maria"@example.com'),
        ('"a@b, c"@example.com', '"a@b, c"@example.com'),
        (r'"a\"b\\c"@example.com', r'"a\"b\\c"@example.com'),
        # Quotes that are not needed change nothing (RFC 5321 §4.1.2).
        ('"ana.b"@example.com', "ana.b@example.com"),
        (r'"an\a"@example.com', "ana@example.com"),
        ("ana@my_host.example.com", "ana@my_host.example.com"),
        ("ana@_dmarc.example.com", "ana@_dmarc.example.com"),
        ("ana@my_host.bücher.example", "ana@my_host.xn--bcher-kva.example"),
        ("ana@example.com.", "ana@example.com"),
        ("ana@bücher.example。", "ana@xn--bcher-kva.example"),
        ("ana@bücher．example", "ana@xn--bcher-kva.example"),
        ("\u200bana@example.com", "ana@example.com"),
        ("ana@example.com\u200b", "ana@example.com"),
        ("\ufeffana@example.com", "ana@example.com"),
        ("\u202aana@example.com\u202c", "ana@example.com"),
        ("\u2068ana@example.com\u2069\u200f", "ana@example.com"),
        ("an\u200ba@exam\u00adple.com", "ana@example.com"),
        ("\u200ba..b@docomo.ne.jp", '"a..b"@docomo.ne.jp'),
        ("ana＠example.com", "ana@example.com"),
        ("ana﹫example.com", "ana@example.com"),
        ("ａｎａ．ｂ＠ｅｘａｍｐｌｅ．ｃｏｍ", "ana.b@example.com"),
        ("\u3000ana@example.com\u00a0", "ana@example.com"),
        ("\tana@example.com\r\n", "ana@example.com"),
        ("ana @ example.com", "ana@example.com"),
    ],
)
def test_an_address_is_read_as_it_was_meant(text: str, spec: str) -> None:
    address = read_address(text)
    assert address is not None
    assert address.addr_spec == spec
    again = read_address(spec)
    assert again == address


@pytest.mark.parametrize(
    "text",
    [
        *("a b@example.com", "a,b@example.com", "a@b@example.com", '"a"b@example.com', 'a"b@example.com', "a\\b@x.de"),
        *('""@example.com', '"a\u200b\nb"@example.com', '"é"@example.com', "é@example.com", "ana@", "@example.com"),
        *("ana@example.com..", "ana@..", "ana@.", "ana@-a.com", "ana@a-.com", "ana@a b.com", "ana@[127.0.0.1]"),
        *("ana@example.com; bob@example.com", "ana@\u202eexample.com", "x" * 65 + "@example.com"),
        *('"' + "x " * 33 + '"@example.com', "a..b@" + "b." * 124 + "com", "ana", "\u200b", "", None),
    ],
)
def test_what_may_mean_another_address_or_none_is_not_read(text: str | None) -> None:
    assert read_address(text) is None


@pytest.mark.parametrize(
    "forms",
    [
        ["Ana@Example.com", " ana@example.com ", "\u200bana@example.com.", "ana＠example.com", '"ana"@EXAMPLE.com'],
        ["a..b@docomo.ne.jp", '"a..b"@docomo.ne.jp', '"A..b"@DOCOMO.ne.jp', r'"a.\.b"@docomo.ne.jp'],
        ["ana@bücher.example", "ana@xn--bcher-kva.example", "ANA@BÜCHER.EXAMPLE", "ana@XN--bcher-kva.example."],
    ],
)
def test_all_forms_of_one_address_have_one_key(forms: list[str]) -> None:
    (key,) = {normal_form(form) for form in forms}
    assert normal_form(key) == key
    # A suppression stored under one of them is found by each: as it stands, or among the other spellings.
    assert all(key in {form.strip(" ").lower(), *other_spellings(form)} for form in forms)


def test_a_domain_of_another_script_may_have_been_stored_as_it_was_written() -> None:
    assert "ana@bücher.example" in other_spellings("ana@xn--bcher-kva.example")
    assert "ana@bücher.example" in other_spellings("Ana@bücher.example.")


def test_an_ordinary_address_has_no_other_spelling() -> None:
    assert other_spellings("  Ana.Maria+x@Example.COM ") == ()
    assert other_spellings(None) == ()
    assert other_spellings("nobody") == ()


def test_what_is_no_address_is_compared_as_text() -> None:
    assert normal_form(" No Body\u200b") == "no body"


@given(PRINTABLE)
def test_whatever_is_quoted_comes_back_from_header_and_envelope_as_it_was(local: str) -> None:
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    address = headers.valid_address(f'"{escaped}"@example.com', "Ana")
    assert address is not None
    assert address.username == local
    assert mailbox(address.addr_spec) == address.addr_spec.encode()
    message = BytesParser(policy=default).parsebytes(headers.mailbox("To", address) + b"X-End: 1\r\n\r\n")
    assert message.keys() == ["To", "X-End"]
    (read,) = message["To"].addresses
    # That parser drops backslashes from quoted local parts, and blanks at their ends.
    if "\\" not in local and '"' not in local and local == local.strip():
        assert (read.username, read.domain) == (local, "example.com")


def test_a_list_is_split_at_commas_outside_quotes() -> None:
    text = 'ana@example.com, "a, b"@example.com,, bob@example.com ,'
    assert split_addresses(text) == ["ana@example.com", '"a, b"@example.com', "bob@example.com"]
