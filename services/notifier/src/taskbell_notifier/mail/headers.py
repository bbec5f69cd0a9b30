"""Writes header fields as bytes; no input can end a field or begin another one.

Lines end with CRLF and have at most 78 characters if a fold is possible (RFC 5322 §2.1.1); text that is not ASCII
becomes encoded words (RFC 2047) of UTF-8. A value that came from outside passes through `clean` first, so no CR, LF or
other control ever reaches a header.
"""

import binascii
import re
from email.headerregistry import Address
from email.utils import getaddresses

from taskbell_notifier.addresses import quoted_if_needed, read_address
from taskbell_notifier.mail import clean

LINE = 78
"""Characters that a header line should not exceed, without its CRLF."""
HARD_LINE = 998
"""Characters that it must not exceed."""
_ENCODED_LINE = 76
"""Characters of a line that contains an encoded word (RFC 2047 §2)."""
_ENCODED_WORD = 75
_WRAPPING = len("=?utf-8?q??=")

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_NAMED = re.compile(r"([^<>]*)<([^<>]*)>\s*\Z")
_ATOMS = re.compile(rf"{_ATEXT}+(?: {_ATEXT}+)*\Z")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>\Z")

# The printable characters that an encoded word may contain as they are, also in a display name (§5 (3)).
_PLAIN_IN_Q = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/"
_ONE_IN_Q = _PLAIN_IN_Q + b" "
"""Bytes that take one character; all others take three."""
_Q = ["_" if byte == 0x20 else chr(byte) if byte in _PLAIN_IN_Q else f"={byte:02X}" for byte in range(256)]


class Mailbox(Address):
    """A name and an address, whose `addr_spec` has the quotes that dots need; the standard library leaves those out."""

    @property
    def addr_spec(self) -> str:
        return f"{quoted_if_needed(self.username)}@{self.domain}"


def valid_address(text: str | None, name: str | None = None) -> Mailbox | None:
    """The address that the text means (`addresses.read_address`), with that display name; None: it means none."""
    address = read_address(text)
    if address is None:
        return None
    shown = clean.title(name or "", clean.NAME_GRAPHEMES)
    return Mailbox(display_name=shown, username=address.local, domain=address.domain)


def parse_sender(text: str) -> Mailbox:
    """The sender, given as `Name <address>` or as an address.

    Raises:
        ValueError: it is not one valid address.
    """
    mailboxes = getaddresses([text])
    sender = valid_address(mailboxes[0][1], mailboxes[0][0]) if len(mailboxes) == 1 else None
    if sender is None:
        raise ValueError(_unquoted(text) or f"must look like Taskbell <taskbell@example.com>: {text!r}")
    return sender


def _unquoted(text: str) -> str | None:
    """What to say if all that a sender lacks is quotes around its name; None: it lacks more."""
    found = _NAMED.match(text)
    if found is None or valid_address(found[2]) is None:
        return None
    name = found[1].replace("\\", "").replace('"', "").strip()
    return f'has a name that needs quotes, such as "{name}" <{found[2].strip()}>: {text!r}' if name else None


def checked_message_id(value: str) -> bytes:
    """A stored Message-ID, checked, as bytes.

    Raises:
        ValueError: it is not a Message-ID that fits on one line.
    """
    # A Message-ID cannot be folded.
    if not _MESSAGE_ID.match(value) or len(value) > HARD_LINE - len("Message-ID: "):
        msg = f"not a Message-ID: {value!r}"
        raise ValueError(msg)
    return value.encode("ascii")


def subject_text(subject: str) -> str:
    """The subject as its reader sees it: one line without controls, at most 300 graphemes."""
    return clean.title(subject, 300)


def unstructured(name: str, value: str) -> bytes:
    """A header field of free text, folded; `value` is one line."""
    if value.isascii() and "=?" not in value:
        if len(name) + 2 + len(value) <= LINE:
            return f"{name}: {value}\r\n".encode("ascii")
        if max(map(len, value.split(" "))) < LINE - len(name) - 2:
            return b"\r\n ".join(line.encode("ascii") for line in _folded(name, value)) + b"\r\n"
    return f"{name}: ".encode("ascii") + b"\r\n ".join(encoded_words(value, len(name) + 2)) + b"\r\n"


def _folded(name: str, value: str) -> list[str]:
    lines = []
    line = f"{name}:"
    for word in value.split(" "):
        # The blank at the start of each further line counts too.
        if len(line) + 1 + len(word) > LINE - 1:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}"
    lines.append(line)
    return lines


def mailbox(name: str, address: Address) -> bytes:
    """A header field with one mailbox, `To: "Ana Müller" <ana@example.com>`."""
    shown = address.display_name
    spec = address.addr_spec.encode("ascii")
    prefix = f"{name}: ".encode("ascii")
    if not shown:
        return prefix + spec + b"\r\n"
    if not shown.isascii() or "=?" in shown:
        phrase = b"\r\n ".join(encoded_words(shown, len(prefix)))
    elif _ATOMS.match(shown):
        phrase = shown.encode("ascii")
    else:
        phrase = b'"' + shown.replace("\\", "\\\\").replace('"', '\\"').encode("ascii") + b'"'
    last_line = len(phrase) - phrase.rfind(b"\n") - 1 + (0 if b"\n" in phrase else len(prefix))
    fold = b" " if last_line + len(spec) + 3 <= LINE else b"\r\n "
    return prefix + phrase + fold + b"<" + spec + b">\r\n"


def encoded_words(text: str, column: int) -> list[bytes]:
    """The text as encoded words; the first begins at `column`, and none splits a character (§5)."""
    data = text.encode("utf-8")
    encode, length = (_q, _q_length) if _q_length(data) <= _b_length(data) else (_b, _b_length)
    room = min(_ENCODED_WORD, _ENCODED_LINE - column) - _WRAPPING
    if length(data) <= room:
        return [encode(data)]
    words = []
    chunk = b""
    for character in text:
        longer = chunk + character.encode("utf-8")
        if chunk and length(longer) > room:
            words.append(encode(chunk))
            room = _ENCODED_WORD - _WRAPPING
            longer = character.encode("utf-8")
        chunk = longer
    words.append(encode(chunk))
    return words


def _q_length(data: bytes) -> int:
    return len(data) + 2 * len(data.translate(None, delete=_ONE_IN_Q))


def _b_length(data: bytes) -> int:
    return (len(data) + 2) // 3 * 4


def _q(data: bytes) -> bytes:
    return f"=?utf-8?q?{''.join(map(_Q.__getitem__, data))}?=".encode("ascii")


def _b(data: bytes) -> bytes:
    return b"=?utf-8?b?" + binascii.b2a_base64(data, newline=False) + b"?="
