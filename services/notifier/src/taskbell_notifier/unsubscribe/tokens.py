"""Links that end a mailing for one person with one click (RFC 8058), and need no login.

A token names user, kind and key, and carries their HMAC-SHA256 under SECRET_KEY, truncated to 128 bits (RFC 2104 §5).
It never expires: a mail may be read years later. It allows nothing but ending that kind of mail for that user.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import NamedTuple

from taskbell.contracts import MailKind
from taskbell_notifier.mail.links import absolute

# On the wire for ever: a code is never given to another kind.
_CODES = {MailKind.REMINDER: 1, MailKind.OVERDUE: 2, MailKind.WEEKLY: 3}
_KINDS = {code: kind for kind, code in _CODES.items()}

_VERSION_AND_PURPOSE = b"taskbell unsubscribe 1\0"
_MAC_BYTES = 16
_HEAD_BYTES = 2  # key id, kind; then the user id in as few bytes as it takes
_MAX_USER_ID = 2**63 - 1
_TOKEN_BYTES = range(_HEAD_BYTES + 1 + _MAC_BYTES, _HEAD_BYTES + 8 + _MAC_BYTES + 1)


class Subscription(NamedTuple):
    """What a token speaks of."""

    user_id: int
    kind: MailKind


class _Key(NamedTuple):
    id: int
    secret: bytes


class Unsubscriber:
    """Makes tokens and reads them.

    Args:
        secret_key: the key that new tokens are made with.
        former_keys: keys whose tokens are still honoured after SECRET_KEY was changed.

    Raises:
        ValueError: for an empty key.
    """

    def __init__(self, secret_key: str, former_keys: Sequence[str] = ()) -> None:
        self._keys = tuple(_key(secret) for secret in (secret_key, *former_keys))

    def token(self, user_id: int, kind: MailKind) -> str:
        """The token, 26 to 35 characters that a URL holds as they are.

        Raises:
            ValueError: for a kind that nobody subscribes to, or an id that is none.
        """
        code = _CODES.get(kind)
        if code is None or not 1 <= user_id <= _MAX_USER_ID:
            msg = f"no unsubscription of user {user_id} from {kind}"
            raise ValueError(msg)
        key = self._keys[0]
        head = bytes((key.id, code)) + user_id.to_bytes((user_id.bit_length() + 7) // 8, "big")
        return base64.urlsafe_b64encode(head + _mac(key, head)).rstrip(b"=").decode("ascii")

    def read(self, token: str) -> Subscription | None:
        """Whose subscription to what the token ends; None: no token of ours."""
        raw = _decoded(token)
        if raw is None:
            return None
        head, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        # Two keys may share an id; all of that id are tried.
        if not any(hmac.compare_digest(_mac(key, head), mac) for key in self._keys if key.id == head[0]):
            return None
        kind = _KINDS.get(head[1])
        return None if kind is None else Subscription(int.from_bytes(head[_HEAD_BYTES:], "big"), kind)


class UnsubscribeLinks:
    """The addresses that stand in mails and their headers.

    Args:
        public_url: where the world reaches this service's `/u/`; None: there are no such links.

    Raises:
        ValueError: where `public_url` is not absolute http(s).
    """

    def __init__(self, public_url: str | None, unsubscriber: Unsubscriber) -> None:
        self._base = f"{absolute(public_url.rstrip('/'), 'PUBLIC_URL')}/u/" if public_url else None
        self._unsubscriber = unsubscriber

    def url(self, user_id: int | None, kind: MailKind) -> str | None:
        """The link for that user and kind; None where there is none: no PUBLIC_URL, no user, no mailing."""
        if self._base is None or user_id is None or kind not in _CODES:
            return None
        return self._base + self._unsubscriber.token(user_id, kind)


def _key(secret: str) -> _Key:
    if not secret:
        msg = "a secret key must not be empty"
        raise ValueError(msg)
    data = secret.encode()
    return _Key(hashlib.sha256(b"taskbell key id\0" + data).digest()[0], data)


def _mac(key: _Key, head: bytes) -> bytes:
    return hmac.digest(key.secret, _VERSION_AND_PURPOSE + head, "sha256")[:_MAC_BYTES]


def _decoded(token: str) -> bytes | None:
    if not token.isascii() or len(token) > 64:
        return None
    data = token.encode("ascii")
    try:
        raw = base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    # One token has one spelling: no spare bits at its end, no padding written out.
    if len(raw) not in _TOKEN_BYTES or base64.urlsafe_b64encode(raw).rstrip(b"=") != data:
        return None
    return raw
