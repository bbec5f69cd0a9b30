"""Unsubscribe tokens: what they say, and that they cannot be forged."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.kinds import FOREIGN, KINDS, MAILINGS, OVERDUE, REPORT, WEEKLY

from taskbell.kinds import Kind
from taskbell_notifier.unsubscribe.tokens import UnsubscribeLinks, Unsubscriber, Unsubscription

SECRET = "a secret key of some length"
user_ids = st.integers(1, 2**63 - 1)
kinds = st.sampled_from([*MAILINGS, FOREIGN])
unsubscriber = Unsubscriber(KINDS, SECRET)


@given(user_ids, kinds)
def test_a_token_says_whose_and_what_and_a_url_holds_it_as_it_is(user_id: int, kind: Kind):
    token = unsubscriber.token(user_id, kind)
    assert unsubscriber.read(token) == Unsubscription(user_id, kind.name)
    assert token.replace("-", "").replace("_", "").isalnum()
    assert token.isascii()
    assert 26 <= len(token) <= (35 if kind in MAILINGS else 78)


def test_a_token_carries_a_truncated_hmac_sha256_over_key_id_kind_and_user():
    raw = base64.urlsafe_b64decode(unsubscriber.token(300, OVERDUE) + "==")
    key_id = hashlib.sha256(b"taskbell key id\0" + SECRET.encode()).digest()[:1]
    head = key_id + b"\x02" + b"\x01\x2c"  # kind 2, user 300
    mac = hmac.new(SECRET.encode(), b"taskbell unsubscribe 1\0" + head, hashlib.sha256).digest()
    assert raw == head + mac[:16]


@given(user_ids, kinds, st.data())
def test_a_token_with_any_bit_changed_is_none_of_ours(user_id: int, kind: Kind, data: st.DataObject):
    token = unsubscriber.token(user_id, kind)
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    assert unsubscriber.read(base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode()) is None


def test_a_token_has_one_spelling():
    token = unsubscriber.token(7, WEEKLY)  # 19 bytes: the last letter carries four spare bits
    assert unsubscriber.read(token) == Unsubscription(7, "weekly")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = {token[:-1] + letter for letter in alphabet} - {token}
    assert [other for other in others if unsubscriber.read(other)] == []
    for spelling in (token + "=", token + "==", token + "A", " " + token, token + "\n", token.replace("_", "/") + "=="):
        assert unsubscriber.read(spelling) is None


@given(st.text(max_size=80))
def test_any_text_is_read_without_error(text: str):
    assert unsubscriber.read(text) is None


def test_a_token_of_another_key_is_none_of_ours():
    token = unsubscriber.token(7, OVERDUE)
    assert Unsubscriber(KINDS, "another key").read(token) is None


def test_a_changed_key_honours_the_tokens_of_the_former_one():
    old = unsubscriber.token(7, OVERDUE)
    rotated = Unsubscriber(KINDS, "the new key", [SECRET])
    assert rotated.read(old) == Unsubscription(7, "overdue")
    assert rotated.read(rotated.token(7, OVERDUE)) == Unsubscription(7, "overdue")
    assert rotated.token(7, OVERDUE) != old
    assert unsubscriber.read(rotated.token(7, OVERDUE)) is None


def test_two_keys_that_share_an_id_are_both_honoured():
    def key_id(secret: str) -> int:
        return hashlib.sha256(b"taskbell key id\0" + secret.encode()).digest()[0]

    twin = next(f"key {n}" for n in range(10_000) if key_id(f"key {n}") == key_id(SECRET))
    assert Unsubscriber(KINDS, twin, [SECRET]).read(unsubscriber.token(9, WEEKLY)) == Unsubscription(9, "weekly")


@pytest.mark.parametrize(("user_id", "kind"), [(0, WEEKLY), (-1, WEEKLY), (2**63, WEEKLY), (7, REPORT)])
def test_there_is_no_token_for_what_nobody_subscribes_to(user_id: int, kind: Kind):
    with pytest.raises(ValueError, match="cannot be unsubscribed"):
        unsubscriber.token(user_id, kind)


def test_an_empty_key_is_refused():
    with pytest.raises(ValueError, match="must not be empty"):
        Unsubscriber(KINDS, "")
    with pytest.raises(ValueError, match="must not be empty"):
        Unsubscriber(KINDS, "key", [""])


def test_links_are_short_and_absent_where_there_is_nothing_to_link():
    links = UnsubscribeLinks("https://taskbell.example.com/", unsubscriber)
    url = links.url(2**63 - 1, OVERDUE)
    assert url is not None
    assert url.startswith("https://taskbell.example.com/u/")
    assert len(url) <= 75
    assert unsubscriber.read(url.rpartition("/")[2]) == Unsubscription(2**63 - 1, "overdue")
    assert links.url(None, OVERDUE) is None
    assert links.url(7, REPORT) is None
    assert UnsubscribeLinks(None, unsubscriber).url(7, OVERDUE) is None
    with pytest.raises(ValueError, match="PUBLIC_URL"):
        UnsubscribeLinks("taskbell.example.com", unsubscriber)


def test_a_token_of_a_packages_kind_names_it_and_works_after_the_package_was_removed():
    raw = base64.urlsafe_b64decode(unsubscriber.token(300, FOREIGN) + "==")
    assert raw[1:-16] == b"\x00\x08stand_up\x01\x2c"
    assert FOREIGN.name not in KINDS
    assert unsubscriber.read(unsubscriber.token(300, FOREIGN)) == Unsubscription(300, "stand_up")


@pytest.mark.parametrize(
    "said",
    [b"\x00", b"\x00\x00\x07", b"\x00\x08stand_up", b"\x00\x09stand_up\x07", b"\x00\x08Stand_up\x07", b"\x09\x07"],
    ids=["no name", "empty name", "no user", "name too short", "not a name", "no kind of that code"],
)
def test_a_signed_token_that_says_nothing_we_know_is_not_read(said: bytes):
    head = hashlib.sha256(b"taskbell key id\0" + SECRET.encode()).digest()[:1] + said
    mac = hmac.new(SECRET.encode(), b"taskbell unsubscribe 1\0" + head, hashlib.sha256).digest()[:16]
    assert unsubscriber.read(base64.urlsafe_b64encode(head + mac).rstrip(b"=").decode()) is None
