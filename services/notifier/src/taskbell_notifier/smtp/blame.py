"""Whom a server's refusal of a mail is about: the sender or relay, this recipient, this message, or nobody.

The table, from the dialects of servers that we know. Texts are compared in lower case, without addresses.

- sender or relay: enhanced codes (RFC 3463, RFC 7372, Exchange's and Gmail's own) 5.1.7, 5.1.8, 5.2.252, 5.4.5,
  5.7.3, 5.7.8 to 5.7.11, 5.7.13, 5.7.14, 5.7.20 to 5.7.27, 5.7.57, 5.7.60, 5.7.64, 5.7.500 to 5.7.799; codes 530, 534,
  535, 538; words such as relay denied, rcpthosts (qmail), sender rejected, sender verify failed (Exim), not owned, not
  verified (SES), send as, authentication required, SPF, DKIM, DMARC, blocked client hosts, sending limits.
- recipient: 5.1.0 to 5.1.4, 5.1.6, 5.1.10, 5.2.0 to 5.2.4, 5.4.310; 551, 556; user unknown (Postfix), no such user,
  unrouteable address (Exim), RecipientNotFound and `5.4.1 … Access denied` (Exchange), mailbox not found (Yahoo),
  mailbox full, account disabled.
- message: 5.3.4, 5.6.x; 552.
- nobody: all others, such as 5.0.0, 5.5.x, and 5.7.1 without words about the sender.

Words about the sender count before codes: Postfix says `550 5.1.0 Sender address rejected: User unknown`.
"""

import re
from enum import StrEnum

WORDS_LIMIT = 160
"""Characters by which two refusals are compared."""


class Blame(StrEnum):
    """Whom a refusal is about."""

    SENDER = "sender"
    """The sender, the login or the relay: an operator has to correct a setting, here or at the server."""
    RECIPIENT = "recipient"
    MESSAGE = "message"
    NOBODY = "nobody"
    """The reply does not tell."""


_SENDER_CODES = re.compile(r"5\.1\.[78]|5\.2\.252|5\.4\.5|5\.7\.(?:3|8|9|10|11|13|14|2[0-7]|57|60|64|[567]\d\d)")
_RECIPIENT_CODES = re.compile(r"5\.1\.(?:[0-4]|6|10)|5\.2\.[0-4]|5\.4\.310")
_MESSAGE_CODES = re.compile(r"5\.3\.4|5\.6\.\d+")
_SUPPRESSING_CODES = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"})
_SENDER_REPLIES = frozenset({530, 534, 535, 538})
_RECIPIENT_REPLIES = frozenset({551, 556})
_MESSAGE_REPLIES = frozenset({552})

# Codes that stand where RFC 2034 does not put them: `#5.1.0 …` (Cisco), `5.1.1: …`, `… (#5.7.1)` (qmail).
_MARKED_CODE = re.compile(r"(?:^\W{0,2}|[#(\[]\s?#?)(5\.\d{1,3}\.\d{1,3})(?![\d.])(?=[\s:;,.)\]]|$)")

_CONTENT = re.compile(r"\b(?:its content|content rejected|attachment|virus|malware|executable)\b")

_SENDER_WORDS = re.compile(
    r"""
      \bsender\b(?:\W+\w+){0,4}?\W+(?:rejected|refused|denied|invalid|not|unknown|unverified|verif\w+|blocked|mismatch
        |blacklisted|forbidden|unauthori[sz]ed)\b
    | \b(?:invalid|unknown|bad|forged|unauthori[sz]ed|unverified|rejected|blocked)\W+(?:envelope\W+)?(?:sender|from)\b
    | \b(?:from|envelope|sender'?s?|sending)\W+(?:address|domain|header|identity|account|user)\b(?!\W+you\W+tried)
    | \bmail\W+from\b(?:\W+\w+){0,4}?\W+(?:not|must|denied|rejected|refused|invalid)\b
    | \brelay(?:ing)?\b | \brcpthosts\b | \bsubmission\b.*\bnot\b
    | \b(?:not|un)\W?(?:yet\W+|been\W+)?verified\b(?!.*\brecipient\b)
    | \bnot\W+owned\b | \bdoes(?:\W+not|n'?t)\W+own\b
    | \bsend\W?(?:as|on\W?behalf\w*)\W?(?:denied|\b) | \bsendasdenied\b
    | \b(?:not|un)\W?(?:allowed|permitted|authori[sz]ed)\W+to\W+(?:send|use|relay|submit)\b
    | \bauthenticat\w*\W+(?:is\W+)?(?:required|needed|failed|first|unsuccessful|credentials)\b
    | \b(?:not|must\W+be|be|un)\W?authenticated\b | \bsmtp\W?auth\b | \bauth\w*\W+required\b
    | \b(?:log\W?in|login|authenticate)\W+first\b | \bstarttls\b
    | \b(?:spf|dkim|dmarc)\b
    | \b(?:client|your)\W+(?:host|ip|server|network|account|domain|plan|mail\W?server)\b
    | \b(?:spamhaus|dnsbl|rbl|(?:black|block|deny)\W?list\w*|reverse\W+dns|ptr\W+record|reputation)\b
    | \b(?:daily|hourly|sending|monthly)\W+(?:\w+\W+)?(?:limit|quota)\b
    | \bsandbox\b
    """,
    re.VERBOSE,
)

_UNKNOWN = re.compile(
    r"""
      \b(?:unrout(?:e)?able|undeliverable)\W+(?:\w+\W+)?address\b
    | \bunknown\W+(?:\w+\W+)?(?:user|recipient|mailbox|account|addressee|local\W?part|address|alias)\b
    | \b(?:user|recipient|mailbox|account|addressee|address|alias)\b(?:\W+\w+){0,3}?\W+(?:unknown|not\W+found
        |does(?:\W+not|n'?t)\W+exist|not\W+exist|(?:is\W+)?not\W+known|not\W+recogni[sz]ed|no\W+longer\W+(?:exists?|valid))\b
    | \bno\W+such\W+(?:\w+\W+)?(?:user|recipient|mailbox|account|person|address|addressee|alias|domain)\b
    | \bno\W+(?:mailbox|account|user)\W+(?:here\b|by\W+that|with\W+that|found)
    | \b(?:does(?:\W+not|n'?t)|do\W+not|don'?t)\W+have\W+an?\W+(?:\S+\W+){0,3}?(?:account|mailbox)\b
    | \bnot\W+a\W+(?:valid|known)\W+(?:user|mailbox|recipient|account|address)\b
    | \b(?:invalid|non\W?existent|bad)\W+(?:recipient|mailbox|user|addressee|destination)\b
    | \binvalid\W+(?:final\W+delivery\W+)?(?:e?\W?mail\W+)?address\b
    | \brecipient\W+not\W+found\b | \brecipnotfound\b | \bnull\W+mx\b
    """,
    re.VERBOSE,
)

_RECIPIENT_WORDS = re.compile(
    r"""
      \bmailbox\b(?:\W+\w+){0,4}?\W+(?:unavailable|full|disabled|inactive|suspended|exceeded|over)\b
    | \bover\W?quota\b | \b(?:out\W+of|insufficient)\W+(?:storage|disk)\b
    | \baccount\b.*\byou\W+tried\W+to\W+reach\b
    | \b(?:recipient|account)\b(?:\W+\w+){0,3}?\W+(?:disabled|inactive|suspended|not\W+available)\b
    | \b(?:domain|host)\W+(?:name\W+)?not\W+found\b
    """,
    re.VERBOSE,
)

_DIRECTORY_SAYS_NO = re.compile(r"\brecipient\W+address\W+rejected\W+access\W+denied\b")
"""Exchange Online, with 5.4.1, of an address that its directory does not have."""


def blamed(code: int, enhanced: str | None, text: str) -> tuple[Blame, bool]:
    """Whom a 5xx reply blames, and if it says that the recipient's address will never take mail.

    Args:
        enhanced: the code where RFC 2034 puts it; one that stands elsewhere is found in the text.
        text: the reply's text, on any number of lines.
    """
    said = _plain(text)
    status = enhanced or marked_code(text)
    unknown = _UNKNOWN.search(said) is not None or (status == "5.4.1" and _DIRECTORY_SAYS_NO.search(said) is not None)
    if _names_sender(code, status, said, unknown=unknown):
        return Blame.SENDER, False
    # Cisco's filters say `#5.1.0` of an address that they do not know; where RFC 2034 puts it, 5.1.0 says less.
    if status in _SUPPRESSING_CODES or (status == "5.1.0" and enhanced is None):
        return Blame.RECIPIENT, True
    if code in _MESSAGE_REPLIES or (status is not None and _MESSAGE_CODES.fullmatch(status)):
        return Blame.MESSAGE, False
    # With 5.7.x a server speaks of its policy, whatever it calls the recipient.
    if unknown and not (status or "").startswith("5.7."):
        return Blame.RECIPIENT, True
    if status is not None and _RECIPIENT_CODES.fullmatch(status):
        return Blame.RECIPIENT, False
    if code in _RECIPIENT_REPLIES or _RECIPIENT_WORDS.search(said):
        return Blame.RECIPIENT, False
    return Blame.NOBODY, False


_NOT_NOW = re.compile(
    r"\brelay(?:ing)?\W+(?:access\W+)?(?:is\W+)?(?:denied|prohibited|not)\b|\bsender\W+address\W+rejected\b"
)


def refuses_sender_for_now(text: str) -> bool:
    """True if a 4xx names the sender or the relay.

    Postfix's `454 4.7.1 Relay access denied` goes on until an operator corrects a setting.
    """
    return _NOT_NOW.search(_plain(text)) is not None


def _names_sender(code: int, status: str | None, said: str, *, unknown: bool) -> bool:
    if code in _SENDER_REPLIES:
        return True
    # Exchange's refusals by groups that take mail from their own organization alone.
    if "resolver.rst." in said or (status is not None and re.fullmatch(r"5\.7\.1[23]\d", status)):
        return False
    if status is not None and _SENDER_CODES.fullmatch(status):
        return _CONTENT.search(said) is None
    if status in _SUPPRESSING_CODES or unknown:
        # "user unknown; see your account's page": only words that can mean nobody else outweigh an unknown user.
        return re.search(r"\bsender\b(?:\W+\w+){0,2}?\W+(?:rejected|refused|denied)\b", said) is not None
    return _SENDER_WORDS.search(said) is not None


def marked_code(text: str) -> str | None:
    """An enhanced code that does not stand where RFC 2034 puts it, but is marked as one."""
    found = _MARKED_CODE.search(text)
    return found[1] if found else None


_ADDRESS = re.compile(r"<[^<>]*>|[^\s<>:;,]+@[^\s<>:;,]+")
_URL = re.compile(r"https?://\S+")
_MARKUP = re.compile(r"5\.\d{1,3}\.\d{1,3}")


def _plain(text: str) -> str:
    """The text in lower case on one line, without addresses, links and enhanced codes."""
    for pattern in (_URL, _ADDRESS, _MARKUP):
        text = pattern.sub(" ", text)
    return " ".join(text.lower().split())


def alike(code: int | None, enhanced: str | None, text: str, recipient: str) -> str:
    """What two refusals have in common if they say the same about two people: the text without whatever differs.

    Left out are links, addresses, the recipient's local part and domain, and words with a digit, such as queue ids, IP
    addresses and times.
    """
    local, _, domain = recipient.lower().rpartition("@")
    status = enhanced or marked_code(text)
    words = _plain(text)
    for name in filter(None, (recipient.lower(), local, domain)):
        words = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w])", " ", words)
    kept = [word for word in re.split(r"[\s/=\"'`()\[\]{},;:<>|]+", words) if word and not re.search(r"\d", word)]
    return " ".join(filter(None, (str(code), status, *kept)))[:WORDS_LIMIT]
