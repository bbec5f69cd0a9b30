"""One mail as the pool takes it, and as it goes over the wire: addresses, parameters, CRLF and dots."""

import re
from dataclasses import dataclass

from taskbell_notifier.addresses import ADDRESS_LIMIT, ascii_domain
from taskbell_notifier.smtp.replies import Stage, Submission, Verdict

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
    """The caller has made sure that every line of the message ends with CRLF and that none begins with a dot."""


@dataclass(frozen=True, slots=True)
class ServerExtensions:
    """The SMTP extensions that a transaction can use, as the server announced them in its reply to EHLO."""

    pipelining: bool = False
    size: bool = False
    eightbit: bool = False
    utf8: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """The bytes that are written for one mail."""

    mail: bytes
    rcpt: bytes
    message: bytes
    """Every line ends with CRLF, leading dots are doubled (RFC 5321 §4.5.2), and the final dot is included."""


def mailbox(address: str) -> bytes | None:
    """An address as it stands between the angle brackets; None if it cannot safely stand there.

    The domain of an internationalised address is written as A-labels, so that only a local part may need SMTPUTF8. A
    local part whose dots make it no dot-atom is written in quotes.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return None
    local, domain = found[1], ascii_domain(found[2])
    if not domain:
        return None
    if local.startswith(".") or local.endswith(".") or ".." in local:
        local = local if local.startswith('"') else f'"{local}"'
    try:
        octets = f"{local}@{domain}".encode()
    except UnicodeError:
        return None
    return octets if len(octets) <= ADDRESS_LIMIT else None


def refused_addresses(mail: OutgoingMail) -> Submission | None:
    """The verdict on a mail with an invalid address, which no server is asked about; None: both are valid."""
    if mailbox(mail.recipient) is None:
        return Submission(Verdict.FAILED, Stage.RCPT, text="no valid address")
    return refused_sender(mail.sender)


def refused_sender(sender: str) -> Submission | None:
    """The verdict on every mail from this sender if it is not a valid address; None: it is."""
    if mailbox(sender) is None:
        return Submission(
            Verdict.CONFIGURATION_FAULT, Stage.MAIL, text="MAIL_DEFAULT_SENDER is not a mail address: correct it"
        )
    return None


def lay_out(mail: OutgoingMail, extensions: ServerExtensions) -> Order | Submission:
    """What to write for this mail to a server with these extensions, or why the mail cannot be written.

    `refused_addresses` must have returned None for this mail.
    """
    sender, recipient = mailbox(mail.sender), mailbox(mail.recipient)
    assert sender is not None
    assert recipient is not None
    message = mail.message if mail.is_ready else with_crlf(mail.message)
    parameters = b""
    # RFC 1870 counts neither doubled dots nor the final one.
    if extensions.size:
        parameters = b" SIZE=%d" % len(message)
    if not mail.message.isascii():
        if not extensions.eightbit:
            return Submission(Verdict.FAILED, Stage.MAIL, text="the server does not take 8-bit messages (8BITMIME)")
        parameters += b" BODY=8BITMIME"
    if not (sender.isascii() and recipient.isascii()):
        if not extensions.utf8:
            return Submission(Verdict.FAILED, Stage.RCPT, text="the server does not take such addresses (SMTPUTF8)")
        parameters += b" SMTPUTF8"
    return Order(
        mail=b"MAIL FROM:<%b>%b\r\n" % (sender, parameters),
        rcpt=b"RCPT TO:<%b>\r\n" % recipient,
        message=(message if mail.is_ready else with_dots(message)) + b".\r\n",
    )


def with_crlf(message: bytes) -> bytes:
    """The message with CRLF at the end of every line; a lone CR or LF counts as the end of a line.

    A lone CR or LF must never be sent: a server that takes it for the end of a line can be made to see a second message
    inside this one (SMTP smuggling).
    """
    pairs = message.count(b"\r\n")
    if message.count(b"\n") != pairs or message.count(b"\r") != pairs:
        message = _LONE_ENDING.sub(b"\r\n", message)
    return message if message.endswith(b"\r\n") or not message else message + b"\r\n"


def with_dots(message: bytes) -> bytes:
    """The message with one more dot before each line that begins with a dot."""
    if message.startswith(b"."):
        message = b"." + message
    return message.replace(b"\r\n.", b"\r\n..") if b"\r\n." in message else message
