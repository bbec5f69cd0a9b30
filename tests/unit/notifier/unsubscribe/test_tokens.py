"""Unsubscribe tokens: what they say, and that they cannot be forged."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbell.contracts import MailKind
from taskbell_notifier.domain import MAILINGS
from taskbell_notifier.unsubscribe.tokens import Subscription, UnsubscribeLinks, Unsubscriber

SECRET = "a secret key of some length"
user_ids = st.integers(1, 2**63 - 1)
kinds = st.sampled_from(MAILINGS)
unsubscriber = Unsubscriber(SECRET)


@given(user_ids, kinds)
def test_a_token_says_whose_and_what_and_a_url_holds_it_as_it_is(user_id: int, kind: MailKind):
    token = unsubscriber.token(user_id, kind)
    assert unsubscriber.read(token) == Subscription(user_id, kind)
    assert token.replace("-", "").replace("_", "").isalnum()
    assert token.isascii()
    assert 26 <= len(token) <= 35


def test_a_token_carries_a_truncated_hmac_sha256_over_key_id_kind_and_user():
    raw = base64.urlsafe_b64decode(unsubscriber.token(300, MailKind.OVERDUE) + "==")
    key_id = hashlib.sha256(b"taskbell key id\0" + SECRET.encode()).digest()[:1]
    head = key_id + b"\x02" + b"\x01\x2c"  # kind 2, user 300
    mac = hmac.new(SECRET.encode(), b"taskbell unsubscribe 1\0" + head, hashlib.sha256).digest()
    assert raw == head + mac[:16]


@given(user_ids, kinds, st.data())
def test_a_token_with_any_bit_changed_is_none_of_ours(user_id: int, kind: MailKind, data: st.DataObject):
    token = unsubscriber.token(user_id, kind)
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    assert unsubscriber.read(base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode()) is None


def test_a_token_has_one_spelling():
    token = unsubscriber.token(7, MailKind.WEEKLY)  # 19 bytes: the last letter carries four spare bits
    assert unsubscriber.read(token) == Subscription(7, MailKind.WEEKLY)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = {token[:-1] + letter for letter in alphabet} - {token}
    assert [other for other in others if unsubscriber.read(other)] == []
    for spelling in (token + "=", token + "==", token + "A", " " + token, token + "\n", token.replace("_", "/") + "=="):
        assert unsubscriber.read(spelling) is None


@given(st.text(max_size=80))
def test_any_text_is_read_without_error(text: str):
    assert unsubscriber.read(text) is None


def test_a_token_of_another_key_is_none_of_ours():
    token = unsubscriber.token(7, MailKind.OVERDUE)
    assert Unsubscriber("another key").read(token) is None


def test_a_changed_key_honours_the_tokens_of_the_former_one():
    old = unsubscriber.token(7, MailKind.OVERDUE)
    rotated = Unsubscriber("the new key", [SECRET])
    assert rotated.read(old) == Subscription(7, MailKind.OVERDUE)
    assert rotated.read(rotated.token(7, MailKind.OVERDUE)) == Subscription(7, MailKind.OVERDUE)
    assert rotated.token(7, MailKind.OVERDUE) != old
    assert unsubscriber.read(rotated.token(7, MailKind.OVERDUE)) is None


def test_two_keys_that_share_an_id_are_both_honoured():
    def key_id(secret: str) -> int:
        return hashlib.sha256(b"taskbell key id\0" + secret.encode()).digest()[0]

    twin = next(f"key {n}" for n in range(10_000) if key_id(f"key {n}") == key_id(SECRET))
    assert Unsubscriber(twin, [SECRET]).read(unsubscriber.token(9, MailKind.WEEKLY)) == Subscription(9, MailKind.WEEKLY)


@pytest.mark.parametrize(
    ("user_id", "kind"), [(0, MailKind.WEEKLY), (-1, MailKind.WEEKLY), (2**63, MailKind.WEEKLY), (7, MailKind.REPORT)]
)
def test_there_is_no_token_for_what_nobody_subscribes_to(user_id: int, kind: MailKind):
    with pytest.raises(ValueError, match="no unsubscription"):
        unsubscriber.token(user_id, kind)


def test_an_empty_key_is_refused():
    with pytest.raises(ValueError, match="must not be empty"):
        Unsubscriber("")
    with pytest.raises(ValueError, match="must not be empty"):
        Unsubscriber("key", [""])


def test_links_are_short_and_absent_where_there_is_nothing_to_link():
    links = UnsubscribeLinks("https://taskbell.example.com/", unsubscriber)
    url = links.url(2**63 - 1, MailKind.OVERDUE)
    assert url is not None
    assert url.startswith("https://taskbell.example.com/u/")
    assert len(url) <= 75
    assert unsubscriber.read(url.rpartition("/")[2]) == Subscription(2**63 - 1, MailKind.OVERDUE)
    assert links.url(None, MailKind.OVERDUE) is None
    assert links.url(7, MailKind.REPORT) is None
    assert UnsubscribeLinks(None, unsubscriber).url(7, MailKind.OVERDUE) is None
    with pytest.raises(ValueError, match="PUBLIC_URL"):
        UnsubscribeLinks("taskbell.example.com", unsubscriber)
