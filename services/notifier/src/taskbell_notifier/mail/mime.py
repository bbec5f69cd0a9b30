"""Writes a mail as the bytes that go over the wire; nothing parses or folds it again.

`email.message` takes about a millisecond a mail, and its SMTP policy rewrites a List-Unsubscribe URL of 76 characters
or more into encoded words, which silently breaks one-click unsubscribe (RFC 8058). This writer has one shape:
multipart/alternative of two quoted-printable texts. Property tests check that the standard library's parser reads back
what was written.

Lines end with CRLF, and none begins with a dot (RFC 2049 §3 (8)), so that the transport need not change it.
"""

from binascii import b2a_qp
from collections.abc import Iterable
from datetime import datetime
from email.headerregistry import Address
from email.utils import format_datetime
from functools import lru_cache

from taskbell.kinds import Kind
from taskbell_notifier.mail import headers
from taskbell_notifier.mail.links import absolute
from taskbell_notifier.mail.render import Rendered

# "=_" cannot occur in quoted-printable, so no body can contain it (RFC 2045 §6.7).
_BOUNDARY = b"=_taskbell"

_QP_LINE = 76

_TEXT_PART = (
    b"--" + _BOUNDARY + b"\r\n"
    b'Content-Type: text/plain; charset="utf-8"\r\n'
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
)
_HTML_PART = (
    b"\r\n--" + _BOUNDARY + b"\r\n"
    b'Content-Type: text/html; charset="utf-8"\r\n'
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
)
_END = b"\r\n--" + _BOUNDARY + b"--\r\n"


class MailWriter:
    """Writes the mails of one sender.

    Args:
        sender: whom mails are from; its domain also names List-Ids.
    """

    def __init__(self, sender: Address) -> None:
        self.sender = sender
        self._from = headers.mailbox("From", sender)
        self._constant = lru_cache(maxsize=None)(lambda kind: _constant_headers(kind, sender))
        self._date = lru_cache(maxsize=8)(_date)
        self._part = lru_cache(maxsize=4096)(quoted_printable_part)

    def write(
        self,
        kind: Kind,
        rendered: Rendered,
        *,
        to: Address,
        message_id: str,
        date: datetime,
        unsubscribe_url: str | None = None,
    ) -> bytes:
        """The whole message: every line ends with CRLF, none begins with a dot.

        Args:
            to: the one recipient, from `headers.valid_address`.
            date: aware; the moment of this try.
            unsubscribe_url: the address for one-click unsubscription; None: the mail has no such headers.

        Raises:
            ValueError: the Message-ID or the URL is invalid, or nobody can unsubscribe from the kind.
        """
        return b"".join(
            (
                self._from,
                headers.mailbox("To", to),
                headers.unstructured("Subject", headers.subject_text(rendered.subject)),
                self._date(date.replace(microsecond=0)),
                b"Message-ID: ",
                headers.checked_message_id(message_id),
                self._constant(kind),
                _unsubscribe(kind, unsubscribe_url),
                b"\r\n",
                _TEXT_PART,
                quoted_printable(rendered.text),
                _HTML_PART,
                self._html(rendered.html_parts),
                _END,
            )
        )

    def _html(self, parts: Iterable[str]) -> bytes:
        part = self._part
        return b"".join([part(text) if len(text) >= _QP_LINE else _short(text) or part(text) for text in parts])


def _short(text: str) -> bytes | None:
    """The encoding of a short printable ASCII text, made faster than a cache finds it; None: the text is not such.

    The text must have fewer than 76 characters.
    """
    if text.isascii() and text.isprintable():
        encoded = text.encode("ascii").replace(b"=", b"=3D")
        if len(encoded) < _QP_LINE and not encoded.startswith(b"."):
            return encoded + b"=\r\n"
    return None


def _constant_headers(kind: Kind, sender: Address) -> bytes:
    list_id = f"List-Id: <{kind.name}.taskbell.{sender.domain}>\r\n".encode("ascii")
    return (
        b"\r\nAuto-Submitted: auto-generated\r\n"
        b"X-Auto-Response-Suppress: OOF, AutoReply\r\n" + list_id + b"MIME-Version: 1.0\r\n"
        b'Content-Type: multipart/alternative; boundary="' + _BOUNDARY + b'"\r\n'
    )


def _unsubscribe(kind: Kind, url: str | None) -> bytes:
    if url is None:
        return b""
    if kind.unsubscribe is None:
        msg = f"{kind.name} mails have no unsubscription"
        raise ValueError(msg)
    # It stays on one line, whatever its length: folded, or as encoded words, it would not be read as a URL.
    address = absolute(url, "the unsubscribe URL").encode("ascii")
    return b"List-Unsubscribe: <" + address + b">\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"


def _date(moment: datetime) -> bytes:
    return f"Date: {format_datetime(moment)}\r\n".encode("ascii")


def quoted_printable(text: str) -> bytes:
    """The text as quoted-printable UTF-8 (RFC 2045 §6.7) in lines of at most 76 characters, with CRLF."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.replace("\n", "\r\n")
    # The encoder uses the line end that it finds first; the CRLF added here is removed again below.
    encoded = b2a_qp(f"{lines}\r\n".encode(), istext=True)
    for blank in (b"=20\r\n", b"=09\r\n"):
        if blank in encoded:
            encoded = _with_long_lines_broken(encoded, blank)
    if encoded.startswith(b".") or b"\r\n." in encoded:
        encoded = b"\r\n".join([_without_dot(line) for line in encoded.split(b"\r\n")])
    return encoded[:-2]


def _without_dot(line: bytes) -> bytes:
    """The line with "=2E" for a leading dot; if that makes it too long, the rest moves to further lines."""
    if not line.startswith(b"."):
        return line
    line = b"=2E" + line[1:]
    if len(line) <= _QP_LINE:
        return line
    end = _QP_LINE - 1
    # An escape must not be cut in two.
    escape = line.rfind(b"=", end - 2, end)
    end = end if escape < 0 else escape
    return line[:end] + b"=\r\n" + _without_dot(line[end:])


def _with_long_lines_broken(encoded: bytes, blank: bytes) -> bytes:
    """Breaks lines that are too long because the encoder counts a blank at the end of a line as one character."""
    at = encoded.find(blank)
    while at >= 0:
        if at + len(blank) - 2 - (encoded.rfind(b"\n", 0, at) + 1) > _QP_LINE:
            encoded = encoded[:at] + b"=\r\n" + encoded[at:]
            at += 3
        at = encoded.find(blank, at + 1)
    return encoded


def quoted_printable_part(text: str) -> bytes:
    """A piece of a longer text, encoded so that the encodings of all pieces can be joined.

    If the piece does not end with a line break, a soft line break is added. That costs three bytes, and saves encoding
    the constant pieces of a template for every mail, which took a third of the time of a mail.
    """
    encoded = quoted_printable(text)
    if not encoded or encoded.endswith(b"\r\n"):
        return encoded
    last = encoded[encoded.rfind(b"\n") + 1 :]
    # There is no room for the "=" of a soft break, so the last character moves to a line of its own.
    if len(last) == _QP_LINE:
        width = 3 if last[-3:-2] == b"=" else 1
        encoded = encoded[:-width] + b"=\r\n" + _without_dot(encoded[-width:])
    return encoded + b"=\r\n"
