"""What a server's reply means for one mail: a pure table from stage and reply (or loss) to a verdict.

| at | 4xx | 5xx | lost, or no reply in time |
|---|---|---|---|
| connect, EHLO, STARTTLS | server fault | server fault | server fault |
| AUTH | server fault | configuration fault | server fault |
| MAIL | retry, throttled | configuration fault (552, 5.3.4: failed) | retry |
| RCPT | retry, throttled | by whom it blames; failed may suppress the address | retry |
| DATA | retry, throttled | by whom it blames | retry |
| message | retry, throttled | by whom it blames | unknown |

Whom a 5xx blames, `blame.py` tells: the sender or relay (configuration fault), the recipient or the message (failed),
or neither (refused). A 4xx that asks for a slower pace is throttled.

A 421, and a 452 4.5.3, say that the session is over, and nothing about the mail: throttled at every stage of it.

Codes are read by their first digit, as RFC 5321 §4.3.2 asks of a client. A reply that makes no sense at its stage (a
2xx to DATA, a 3xx to RCPT, a line that is not a reply) is odd: before the first byte of the message it counts like a
lost connection, and after it the outcome is unknown.

A mail that was not taken is tried again after 1, 5, 15 and 60 minutes, then every 4 hours ± 20 %.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from random import Random

from taskbell_notifier.smtp.blame import Blame, blamed, refuses_sender_for_now
from taskbell_notifier.smtp.suspicion import Standing

REASON_LIMIT = 200
"""Characters that the ledger keeps of a reason."""

CLOSING = 421
"""The server closes the connection; RFC 5321 §3.8 allows this reply to any command, and unasked."""

FIRST_DELAYS = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(minutes=60))
LATER_DELAY = timedelta(hours=4)
SPREAD = 0.2
"""Varies the later delay, so that mails that were deferred together are not all tried again together."""

_GREYLISTED = re.compile(r"gr[ea]y.?list|postgrey")
_TOO_FAST = re.compile(
    r"throttl|\brate\b|too (?:many|fast|much|quickly|often|frequent)|slow(?:er)? down|concurren"
    r"|(?:sending|message|hourly|daily|connection)s? (?:limit|maximum)\b.*\b(?:exceeded|reached)"
)

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?=\s|$)")
_ADDRESS = re.compile(r'<?(?:"(?:[^"\\]|\\.)*"|[^\s<>:;,]+)@[^\s<>:;,]+>?')


class Stage(StrEnum):
    """The step of the SMTP session."""

    CONNECT = "connect"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    MESSAGE = "message"


OF_THE_MAIL = frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.MESSAGE})
"""The steps of one mail; those before them belong to the session."""


class Verdict(StrEnum):
    """What becomes of the mail."""

    ACCEPTED = "accepted"
    """The server has taken the mail."""
    RETRY = "retry"
    """The server did not take it now; the try counts."""
    FAILED = "failed"
    """The server refused it for good, and means this recipient or this message."""
    REFUSED = "refused"
    """The server refused it for good, but does not tell whom it means; nobody ends for that alone."""
    THROTTLED = "throttled"
    """The server takes mail more slowly than we hand it over."""
    UNKNOWN = "unknown"
    """The message went out, in part or whole, and no reply came."""
    SERVER_FAULT = "server_fault"
    """No mail can be handed over at present; this one was not tried."""
    CONFIGURATION_FAULT = "configuration_fault"
    """An operator has to correct a setting; this does not count as a try of the mail."""
    NOT_SENT = "not_sent"
    """We closed the connection before the first byte of the message."""
    PAUSED = "paused"
    """Nothing was begun: sending is paused, or the pool is closing."""

    @property
    def is_try(self) -> bool:
        """True if it counts as a try of this mail; else the ledger's row stays as it was."""
        return self in _TRIES


_TRIES = frozenset({Verdict.ACCEPTED, Verdict.RETRY, Verdict.FAILED, Verdict.UNKNOWN})


class Loss(StrEnum):
    """Why no reply came."""

    DROPPED = "connection lost"
    TIMED_OUT = "no reply in time"
    LEFT = "left before the reply"
    """We ended the connection ourselves, because the time that a shutdown allows was over."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply of the server, its lines joined by newlines. Code 0: it could not be read."""

    code: int
    text: str

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 2034, RFC 3463), unless its class contradicts the reply's."""
        found = _ENHANCED.match(self.text)
        if found is None or int(found[1][0]) != self.code // 100:
            return None
        return found[1]


@dataclass(frozen=True, slots=True)
class Submission:
    """How one submission of a mail ended."""

    verdict: Verdict
    stage: Stage | None = None
    code: int | None = None
    """The code of the reply that decided; None: no reply did."""
    enhanced: str | None = None
    text: str = ""
    """The reply's text or ours: printable, without addresses, at most 200 characters."""
    suppress: bool = False
    """The server says that this address will never take mail."""
    loss: Loss | None = None
    standing: Standing | None = None
    """What a 5xx to this mail means beside those to others; the pool says that."""
    words: str = ""
    """What that 5xx has in common with the same to others (`blame.alike`)."""
    cause: BaseException | None = None
    """What `before_data` raised, if that is why the mail was not sent."""

    @property
    def reason(self) -> str:
        """One line for the ledger, `RCPT: 550 5.1.1 no such user`, at most 200 characters."""
        said = " ".join(str(part) for part in (self.code, self.enhanced, self.text) if part)
        return cut(f"{self.stage}: {said}" if self.stage else said)


def classify(stage: Stage, event: Reply | Loss) -> Submission | None:
    """The verdict on a mail after `event` at `stage`; None: the server asks us to go on."""
    if isinstance(event, Loss):
        return lost(stage, event)
    kind = event.code // 100
    if kind == _expected(stage):
        return decided(Verdict.ACCEPTED, stage, event) if stage is Stage.MESSAGE else None
    if kind == 4:
        verdict = _AFTER_4XX[stage]
        greylisted = _GREYLISTED.search(event.text.lower()) is not None
        if verdict is Verdict.RETRY and not greylisted and refuses_sender_for_now(event.text):
            return decided(Verdict.CONFIGURATION_FAULT, stage, event)
        return decided(Verdict.THROTTLED if verdict is Verdict.RETRY and throttles(event) else verdict, stage, event)
    if kind == 5:
        return _refused(stage, event)
    return odd(stage, event)


def ends_no_mail(submission: Submission) -> bool:
    """True if the server has ended the session, not the mail: it closes, or takes no more recipients on it."""
    code = submission.code
    return code is not None and not _of_mail(Reply(code, submission.enhanced or ""))


def _of_mail(reply: Reply) -> bool:
    return reply.code != CLOSING and not (reply.code == 452 and reply.enhanced == "4.5.3")


def ends_session(stage: Stage, event: Reply | Loss) -> bool:
    """True if the connection cannot be used any more: after a loss, a 421 or an odd reply."""
    if isinstance(event, Loss) or event.code == CLOSING:
        return True
    return event.code // 100 not in (_expected(stage), 4, 5)


def lost(stage: Stage, loss: Loss) -> Submission:
    """The verdict on a mail whose connection ended, or timed out, before the reply at `stage`."""
    if loss is Loss.LEFT and stage is not Stage.MESSAGE:
        return Submission(Verdict.NOT_SENT, stage, text=loss.value, loss=loss)
    return Submission(_AFTER_LOSS[stage], stage, text=loss.value, loss=loss)


def odd(stage: Stage, reply: Reply) -> Submission:
    """The verdict on a mail whose server sent a reply that makes no sense at `stage`."""
    found = decided(_AFTER_LOSS[stage], stage, reply)
    return Submission(found.verdict, stage, found.code, found.enhanced, cut(f"unexpected reply: {found.text}"))


def decided(verdict: Verdict, stage: Stage, reply: Reply, *, suppress: bool = False) -> Submission:
    """A submission with this verdict and the code and text of that reply."""
    return Submission(verdict, stage, reply.code or None, reply.enhanced, clean(reply.text), suppress)


def clean(text: str) -> str:
    """A server's text as one printable line without addresses, at most 200 characters.

    Enhanced codes at the start of lines are left out, because they have a field of their own; addresses are left out,
    because reasons are logged.
    """
    lines = (_ENHANCED.sub("", line, count=1) if _ENHANCED.match(line) else line for line in text.split("\n"))
    printable = "".join(character if character.isprintable() else " " for character in " ".join(lines))
    return cut(" ".join(_ADDRESS.sub("<address>", printable).split()))


def cut(text: str) -> str:
    """At most 200 characters of the text; the last one is "…" if something is left out."""
    return text if len(text) <= REASON_LIMIT else f"{text[: REASON_LIMIT - 1]}…"


_AFTER_4XX = {
    Stage.CONNECT: Verdict.SERVER_FAULT,
    Stage.EHLO: Verdict.SERVER_FAULT,
    Stage.STARTTLS: Verdict.SERVER_FAULT,
    Stage.AUTH: Verdict.SERVER_FAULT,
    Stage.MAIL: Verdict.RETRY,
    Stage.RCPT: Verdict.RETRY,
    Stage.DATA: Verdict.RETRY,
    Stage.MESSAGE: Verdict.RETRY,
}

_AFTER_5XX = {**_AFTER_4XX, Stage.AUTH: Verdict.CONFIGURATION_FAULT}

_BLAMED = {
    Blame.SENDER: Verdict.CONFIGURATION_FAULT,
    Blame.RECIPIENT: Verdict.FAILED,
    Blame.MESSAGE: Verdict.FAILED,
    Blame.NOBODY: Verdict.REFUSED,
}

_AFTER_LOSS = {**_AFTER_4XX, Stage.MESSAGE: Verdict.UNKNOWN}


def _expected(stage: Stage) -> int:
    """The first digit with which the server asks us to go on."""
    return 3 if stage is Stage.DATA else 2


def _refused(stage: Stage, reply: Reply) -> Submission:
    if stage not in OF_THE_MAIL:
        return decided(_AFTER_5XX[stage], stage, reply)
    if stage is Stage.MAIL:
        # This message is too large; the next one need not be.
        too_large = reply.code == 552 or reply.enhanced == "5.3.4"
        return decided(Verdict.FAILED if too_large else Verdict.CONFIGURATION_FAULT, stage, reply)
    blame, is_dead = blamed(reply.code, reply.enhanced, reply.text)
    return decided(_BLAMED[blame], stage, reply, suppress=is_dead and stage is Stage.RCPT)


def throttles(reply: Reply) -> bool:
    """True if a 4xx asks for a slower pace, or for another session, and says nothing about this recipient.

    Greylisting, which often has 4.7.1 too, is about one sender and one recipient. So is Gmail's "receiving mail too
    quickly", with 4.2.1.
    """
    if _GREYLISTED.search(reply.text.lower()) or (reply.enhanced or "").startswith("4.2."):
        return False
    if reply.code in (CLOSING, 454) or reply.enhanced == "4.5.3" or says_too_fast(reply.text):
        return True
    return (reply.enhanced or "").startswith("4.7.")


def says_too_fast(text: str) -> bool:
    """True if the text is about how much, or how fast, we send."""
    return _TOO_FAST.search(text.lower()) is not None


def retry_delay(attempt: int, rng: Random) -> timedelta:
    """How long to wait after the `attempt`-th counted try (1 is the first) before the next one.

    Raises:
        ValueError: attempt is less than 1.
    """
    if attempt < 1:
        msg = f"tries are counted from 1, not {attempt}"
        raise ValueError(msg)
    if attempt <= len(FIRST_DELAYS):
        return FIRST_DELAYS[attempt - 1]
    return LATER_DELAY * rng.uniform(1 - SPREAD, 1 + SPREAD)
