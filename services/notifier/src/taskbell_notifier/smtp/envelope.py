"""One mail as the pool takes it, and its form on the wire: addresses, parameters, CRLF and dots."""

import re
from dataclasses import dataclass

from taskbell_notifier.smtp.replies import Stage, Submission, Verdict

ADDRESS_LIMIT = 254
"""Octets of an address; RFC 5321 §4.5.3.1.3 allows a path of 256 with its angle brackets."""

_LOCAL_PART = r'(?:[^\s\x00-\x1f\x7f<>"(),:;\\@\[\]]+|"(?:[^\x00-\x1f\x7f"\\]|\\[^\x00-\x1f\x7f])*")'
_DOMAIN = r"[^\s\x00-\x20\x7f<>\"(),;\\@]+"
_ADDRESS = re.compile(rf"({_LOCAL_PART})@({_DOMAIN})")
_LONE_ENDING = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """Sender and recipient as bare addresses (no names, no angle brackets), and the serialised message."""

    sender: str
    recipient: str
    message: bytes
    is_ready: bool = False
    """Every line of the message ends with CRLF and none begins with a dot: whoever wrote it has seen to that."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the server announced in its answer to EHLO, of what a transaction can use."""

    pipelining: bool = False
    size: bool = False
    eightbit: bool = False
    utf8: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What is written for one mail."""

    mail: bytes
    rcpt: bytes
    message: bytes
    """With CRLF at every line's end, dots doubled (RFC 5321 §4.5.2), and the final dot."""


def mailbox(address: str) -> bytes | None:
    """An address as it goes between the angle brackets; None when it cannot safely go there.

    The domain of an internationalised address goes as A-labels, so that only its local part asks for
    SMTPUTF8.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return None
    if address.isascii():
        octets = address.encode("ascii")
    else:
        try:
            octets = found[1].encode() + b"@" + found[2].encode("idna")
        except UnicodeError:
            return None
    return octets if len(octets) <= ADDRESS_LIMIT else None


def refused_unseen(envelope: OutgoingMail) -> Submission | None:
    """The verdict on a mail that no server needs to see, because one of its addresses is none."""
    if mailbox(envelope.recipient) is None:
        return Submission(Verdict.FAILED, Stage.RCPT, text="no valid address")
    return refused_sender(envelope.sender)


def refused_sender(sender: str) -> Submission | None:
    """The verdict on every mail from a sender that is no address."""
    if mailbox(sender) is None:
        return Submission(
            Verdict.CONFIGURATION_FAULT, Stage.MAIL, text="MAIL_DEFAULT_SENDER is no mail address: correct it"
        )
    return None


def lay_out(envelope: OutgoingMail, abilities: Abilities) -> Order | Submission:
    """What to write for this mail to a server of those abilities, or why it cannot be written.

    Sender and recipient must have passed `refused_unseen`.
    """
    sender, recipient = mailbox(envelope.sender), mailbox(envelope.recipient)
    assert sender is not None
    assert recipient is not None
    message = envelope.message if envelope.is_ready else with_crlf(envelope.message)
    parameters = b""
    if abilities.size:
        parameters = b" SIZE=%d" % len(message)  # RFC 1870 counts neither doubled dots nor the final one
    if not envelope.message.isascii():
        if not abilities.eightbit:
            return Submission(Verdict.FAILED, Stage.MAIL, text="the server does not take 8-bit messages (8BITMIME)")
        parameters += b" BODY=8BITMIME"
    if not (sender.isascii() and recipient.isascii()):
        if not abilities.utf8:
            return Submission(Verdict.FAILED, Stage.RCPT, text="the server does not take such addresses (SMTPUTF8)")
        parameters += b" SMTPUTF8"
    return Order(
        mail=b"MAIL FROM:<%b>%b\r\n" % (sender, parameters),
        rcpt=b"RCPT TO:<%b>\r\n" % recipient,
        message=(message if envelope.is_ready else with_dots(message)) + b".\r\n",
    )


def with_crlf(message: bytes) -> bytes:
    """The message with every line ended by CRLF; a lone CR or LF counts as a line's end.

    Nothing else may be sent: servers that take a lone LF for a line's end can be led to see a second message
    in one (SMTP smuggling).
    """
    pairs = message.count(b"\r\n")
    if message.count(b"\n") != pairs or message.count(b"\r") != pairs:
        message = _LONE_ENDING.sub(b"\r\n", message)
    return message if message.endswith(b"\r\n") or not message else message + b"\r\n"


def with_dots(message: bytes) -> bytes:
    """The message with a dot before each line that begins with one."""
    if message.startswith(b"."):
        message = b"." + message
    return message.replace(b"\r\n.", b"\r\n..") if b"\r\n." in message else message
