"""Which addresses may stand in a mail."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbell_notifier.mail import links
from taskbell_notifier.mail.links import absolute


@given(st.from_regex(links._ORDINARY, fullmatch=True))
def test_what_is_taken_at_a_glance_is_an_absolute_address_of_harmless_characters(url: str) -> None:
    assert urlsplit(url).scheme in {"http", "https"}
    assert urlsplit(url).hostname
    assert url.isascii()
    assert url.isprintable()
    assert not set(url) & set(" \"'<>\\^`|\n")
    assert absolute(url, "APP_URL") == url


@pytest.mark.parametrize(
    "url", ["HTTPS://Example.com/a", "https://user@example.com/", "https://[::1]:8080/u/", "https://example.com/#!/a;b"]
)
def test_less_ordinary_addresses_are_taken_too(url: str) -> None:
    assert absolute(url, "APP_URL") == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com/",
        "https://",
        "https:///a",
        "https://example.com/a b",
        "https://example.com/\n",
        "https://example.com/\r\nBcc: a@b.example",
        'https://example.com/"',
        "https://example.com/<a>",
        "https://exämple.com/",
    ],
)
def test_others_are_refused_by_name(url: str) -> None:
    with pytest.raises(ValueError, match=r"^APP_URL must"):
        absolute(url, "APP_URL")
