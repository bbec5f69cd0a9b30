"""Links that end a kind of mail for one user with one click (RFC 8058), and need no login.

A token names user, kind and key, with their HMAC-SHA256 under SECRET_KEY, truncated to 128 bits (RFC 2104 §5). It never
expires, because a mail may be read years later. It can do nothing but end that kind of mail for that user.

In a token one of our own kinds is one byte; a package's kind is a 0, the length of its name, and the name, so that a
link still works after the package was removed.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from taskbell.kinds import Kind
from taskbell_notifier.mail.links import absolute

_VERSION_AND_PURPOSE = b"taskbell unsubscribe 1\0"
_MAC_BYTES = 16
_BY_NAME = 0
"""Stands in place of a kind's code if the kind's name follows."""
_NAME = re.compile(rb"[a-z][a-z0-9_]{0,30}\Z")
_MAX_USER_ID = 2**63 - 1
_USER_BYTES = range(1, 9)
_TOKEN_BYTES = range(2 + 1 + _MAC_BYTES, 3 + 31 + 8 + _MAC_BYTES + 1)


class Unsubscription(NamedTuple):
    """The user and the kind of mail that a token names."""

    user_id: int
    kind: str
    """The kind's name; the kind's package may not be installed any more."""


class _Key(NamedTuple):
    id: int
    secret: bytes


class Unsubscriber:
    """Makes tokens and reads them.

    Args:
        kinds: all kinds; those with a code of one byte are read by it.
        secret_key: the key that new tokens are made with.
        former_keys: former keys, whose tokens are still valid.

    Raises:
        ValueError: a key is empty.
    """

    def __init__(self, kinds: Mapping[str, Kind], secret_key: str, former_keys: Sequence[str] = ()) -> None:
        self._names = {it.unsubscribe: it.name for it in kinds.values() if isinstance(it.unsubscribe, int)}
        self._keys = tuple(_key(secret) for secret in (secret_key, *former_keys))

    def token(self, user_id: int, kind: Kind) -> str:
        """The token: 26 to 78 characters that need no escaping in a URL.

        Raises:
            ValueError: nobody can unsubscribe from the kind, or the number cannot be a user's id.
        """
        if kind.unsubscribe is None or not 1 <= user_id <= _MAX_USER_ID:
            msg = f"user {user_id} cannot be unsubscribed from {kind.name}"
            raise ValueError(msg)
        key = self._keys[0]
        head = bytes((key.id,)) + _code(kind) + user_id.to_bytes((user_id.bit_length() + 7) // 8, "big")
        return base64.urlsafe_b64encode(head + _mac(key, head)).rstrip(b"=").decode("ascii")

    def read(self, token: str) -> Unsubscription | None:
        """The user and kind that a token names; None: it is not a valid token."""
        raw = _decoded(token)
        if raw is None:
            return None
        head, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        # Two keys may share an id; all of that id are tried.
        if not any(hmac.compare_digest(_mac(key, head), mac) for key in self._keys if key.id == head[0]):
            return None
        if head[1] == _BY_NAME:
            end = 3 + head[2]
            name, user = head[3:end], head[end:]
            kind = name.decode("ascii") if _NAME.match(name) else None
        else:
            kind, user = self._names.get(head[1]), head[2:]
        if kind is None or len(user) not in _USER_BYTES:
            return None
        return Unsubscription(int.from_bytes(user, "big"), kind)


class UnsubscribeLinks:
    """Makes the unsubscribe addresses for mails and their headers.

    Args:
        public_url: the public address under which this service's `/u/` is reached; None: there are no links.

    Raises:
        ValueError: `public_url` is not absolute http(s).
    """

    def __init__(self, public_url: str | None, unsubscriber: Unsubscriber) -> None:
        self._base = f"{absolute(public_url.rstrip('/'), 'PUBLIC_URL')}/u/" if public_url else None
        self._unsubscriber = unsubscriber

    def url(self, user_id: int | None, kind: Kind) -> str | None:
        """The link for that user and kind; None: PUBLIC_URL or the user is missing, or the kind has no such links."""
        if self._base is None or user_id is None or kind.unsubscribe is None:
            return None
        return self._base + self._unsubscriber.token(user_id, kind)


def _code(kind: Kind) -> bytes:
    if isinstance(kind.unsubscribe, int):
        return bytes((kind.unsubscribe,))
    name = kind.name.encode("ascii")
    return bytes((_BY_NAME, len(name))) + name


def _key(secret: str) -> _Key:
    if not secret:
        msg = "a secret key must not be empty"
        raise ValueError(msg)
    data = secret.encode()
    return _Key(hashlib.sha256(b"taskbell key id\0" + data).digest()[0], data)


def _mac(key: _Key, head: bytes) -> bytes:
    return hmac.digest(key.secret, _VERSION_AND_PURPOSE + head, "sha256")[:_MAC_BYTES]


def _decoded(token: str) -> bytes | None:
    if not token.isascii() or len(token) > 96:
        return None
    data = token.encode("ascii")
    try:
        raw = base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    # A token has only one form: without spare bits at its end, and without padding.
    if len(raw) not in _TOKEN_BYTES or base64.urlsafe_b64encode(raw).rstrip(b"=") != data:
        return None
    return raw
