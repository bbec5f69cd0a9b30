"""The states of a delivery, as pure functions over its row.

    planned → sending/envelope → sending/data → sent
                 │                   └ died, stalled or cut off before the commit → unknown → one resend → sent | failed
                 ├ 4xx, drop before the data → retry → …
                 └ failed | suppressed | skipped | expired

`after_submission` returns the change that a submission's verdict asks for, `judge` the change that a sweeper makes to a
row that is due. Neither writes anything: the ledger and the sweeper do, each under its own fence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

from taskbell_notifier.smtp.replies import Stage, Submission, Verdict, retry_delay
from taskbell_notifier.smtp.suspicion import Standing


class DeliveryState(StrEnum):
    PLANNED = "planned"
    SENDING = "sending"
    RETRY = "retry"
    UNKNOWN = "unknown"
    SENT = "sent"
    SKIPPED = "skipped"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    FAILED = "failed"


class Phase(StrEnum):
    """How far the sending of a row has come."""

    ENVELOPE = "envelope"
    """Not a byte of the message has been sent."""
    DATA = "data"
    """The message may have been sent, in part or whole."""


ENDED = frozenset(
    {DeliveryState.SENT, DeliveryState.SKIPPED, DeliveryState.SUPPRESSED, DeliveryState.EXPIRED, DeliveryState.FAILED}
)

HOLD = timedelta(hours=48)
"""How long after T a row of unknown outcome ends that is not sent again."""

UNTRIED_PAUSE = timedelta(seconds=10)
"""Until a row that could not be tried is due again; while sending is paused the sweeper waits longer."""

THROTTLED_PAUSE = timedelta(seconds=5)
"""Until a row is due again whose mail was throttled at the final dot; the pool keeps the pace."""

BLAME_AFTER = timedelta(hours=1)
"""After this time a refusal that names neither side counts as the recipient's fault."""

REFUSED_PAUSE = BLAME_AFTER + timedelta(minutes=5)
"""Until a row with such a refusal is tried again; before that, whoever judges refusals ends it or releases it."""

SUSPECTED_PAUSE = timedelta(seconds=60)
"""Until a row is due again whose refusal paused sending: longer than for others, whose mails are the first probes."""

KNOWN_PAUSE = timedelta(minutes=10)
"""Until a row is due again whose mail alone is refused with words about the sender or the relay."""

CHECK_AGAIN = timedelta(seconds=15)
"""Until the sweeper checks a row again about which nothing can be done now."""

IN_QUEUE = timedelta(seconds=150)
"""How long a row's message may take through the queue before the sweeper checks the row."""

PAUSED_AT_MOST = timedelta(minutes=5)
"""Longest time between checks of a due row while sending is paused, and from the end of the pause to its message."""

LOST_AFTER = timedelta(minutes=30)
"""After this time a row's message counts as lost, and another is written, even if the queue is still busy."""

CUT_OFFS = 20
"""After so many claims cut off before the data a row fails: it may be what kills its process."""

ALONE_AFTER = 2
"""After so many claims cut off a row gets a message of its own, so that it takes no other rows with it."""

OUTCOME_UNKNOWN = "outcome unknown"

CANCELLED = "mailing cancelled"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row that this process may send while its claim lasts."""

    id: int
    mailing_id: int
    kind: str
    """The name of its kind; the kind's package may not be installed any more."""
    user_id: int | None
    address: str | None
    """The address, if the row does not go to a user."""
    at: datetime
    """T of its mailing."""
    props: Mapping[str, Any]
    claim: UUID
    before: DeliveryState
    """Its state before it was claimed."""
    attempts: int
    """Tries, including this one."""
    was_unknown: bool
    """Its outcome was unknown before, so this is its one resend."""
    message_id: str


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written to a row, if it still has that claim."""

    id: int
    claim: UUID | None
    state: DeliveryState
    reason: str
    wait: timedelta = timedelta(0)
    """Until the next try; without meaning if the row ends."""
    untried: bool = False
    """Not a byte of the message was sent, so the claim does not count as a try."""
    cut_off: bool = False
    """Its process died or stalled before the data."""
    address: str | None = None
    suppress: bool = False
    """The address will never take mail: it is to be suppressed."""
    words: str = ""
    """What a refusal has in common with the same to others; empty: the row met none that is to be compared."""


@dataclass(frozen=True, slots=True)
class Postpone:
    """There is nothing to do about the row before `wait` is over."""

    id: int
    wait: timedelta


@dataclass(frozen=True, slots=True)
class Enqueue:
    """The row is to be sent, so a message is to be written for it."""

    id: int
    mailing_id: int
    alone: bool = False


def ended(row: Claimed, state: DeliveryState, reason: str, *, address: str | None = None) -> Change:
    """The change that ends a row that was not submitted; no try is counted."""
    return Change(row.id, row.claim, state, reason, untried=True, address=address)


def returned(row: Claimed, reason: str, wait: timedelta = UNTRIED_PAUSE) -> Change:
    """The change that gives a row back in its former state, for another process or for later."""
    return Change(row.id, row.claim, row.before, reason, wait, untried=True)


def cancelled(row: Claimed) -> Change:
    """The change that ends a row of a cancelled mailing before its mail begins."""
    if row.was_unknown:
        return ended(row, DeliveryState.FAILED, OUTCOME_UNKNOWN)
    return ended(row, DeliveryState.SKIPPED, CANCELLED)


def after_submission(row: Claimed, submission: Submission, address: str, rng: Random) -> Change:
    """The change that the verdict on its mail makes to a row, as the table in docs/mail.md has it."""
    verdict, reason = submission.verdict, submission.reason
    if verdict is Verdict.REFUSED or (verdict is Verdict.CONFIGURATION_FAULT and submission.standing is not None):
        return _refused(row, submission, address)
    if not verdict.is_try:
        return returned(row, reason, THROTTLED_PAUSE if verdict is Verdict.THROTTLED else UNTRIED_PAUSE)
    resent = row.was_unknown and submission.stage is Stage.MESSAGE
    if verdict is Verdict.ACCEPTED:
        state = DeliveryState.SENT
    elif verdict is Verdict.FAILED or resent:
        # There is no second resend, whatever the server replies to the first.
        state = DeliveryState.FAILED
    elif verdict is Verdict.UNKNOWN or row.was_unknown:
        state = DeliveryState.UNKNOWN
    else:
        state = DeliveryState.RETRY
    if row.was_unknown and state is DeliveryState.FAILED:
        reason = f"{OUTCOME_UNKNOWN}; resend: {reason}"
    wait = timedelta(0) if state in ENDED else retry_delay(row.attempts, rng)
    # The server may close the connection after the marker, which counts a resend, and before the first byte: then there
    # was no resend.
    unsent = state is DeliveryState.UNKNOWN and submission.stage is Stage.DATA
    words = submission.words if state is DeliveryState.FAILED else ""
    return Change(
        row.id, row.claim, state, reason, wait, unsent, address=address, suppress=submission.suppress, words=words
    )


def _refused(row: Claimed, submission: Submission, address: str) -> Change:
    """The change to a row whose refusal is not known to be the recipient's fault: it waits, and no try is counted.

    It waits as `retry`, so that no message that is under way can take it up before its time.
    """
    reason, words, wait = submission.reason, submission.words, REFUSED_PAUSE
    if submission.standing is Standing.SUSPECTED:
        reason = f"sending is paused, because this is not the recipient's fault: {reason}"
        wait = SUSPECTED_PAUSE
    elif submission.verdict is Verdict.CONFIGURATION_FAULT:
        reason = f"the server takes others' mails, but of this one it says: {reason}"
        wait = KNOWN_PAUSE
    else:
        reason = f"waits until the server takes a mail to somebody else, an hour at most: {reason}"
    if submission.verdict is Verdict.CONFIGURATION_FAULT:
        # What names the sender never becomes the recipient's fault, so nobody has to judge it.
        words = ""
    state = DeliveryState.UNKNOWN if row.was_unknown else DeliveryState.RETRY
    return Change(row.id, row.claim, state, reason, wait, untried=True, address=address, words=words)


@dataclass(frozen=True, slots=True)
class OpenRow:
    """A row that has not ended, as a sweeper reads it."""

    id: int
    mailing_id: int
    at: datetime
    cancelled: bool
    """Its mailing was cancelled."""
    state: DeliveryState
    phase: Phase | None
    claim: UUID | None
    lease_until: datetime | None
    resends: int
    cut_offs: int
    was_unknown: bool
    next_attempt_at: datetime | None
    queued_at: datetime
    expires_at: datetime
    reason: str | None


class Stretch(NamedTuple):
    """A time in which PostgreSQL was seen to answer, again and again."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class SweeperView:
    """What a sweeper knows apart from the row."""

    now: datetime
    """The database's clock."""
    lease: timedelta
    answering: Sequence[Stretch]
    """When PostgreSQL was seen to answer, by any notifier; the oldest first."""
    may_queue: bool
    """Sending is not paused, and messages do not pile up before the broker."""
    idle: bool
    """This process has had no batch for a while, so the queue counts as empty."""
    hold: bool
    """UNKNOWN_POLICY: rows of unknown outcome are not sent again."""


def judge(row: OpenRow, view: SweeperView) -> Change | Postpone | Enqueue:
    """The action for a row whose `due_at` has come."""
    if row.state is DeliveryState.SENDING:
        return _judge_sending(row, view)
    if row.cancelled:
        return _over(row, DeliveryState.SKIPPED, CANCELLED)
    hold = view.hold and row.state is DeliveryState.UNKNOWN
    deadline = row.at + HOLD if hold else row.expires_at
    if deadline <= view.now:
        last = f"; {row.reason}" if row.reason else ""
        return _over(row, DeliveryState.EXPIRED, f"not sent in time{last}")
    if hold:
        return Postpone(row.id, deadline - view.now)
    if row.next_attempt_at is not None and row.next_attempt_at > view.now:
        return Postpone(row.id, min(row.next_attempt_at, deadline) - view.now)
    since, longest = row.queued_at, LOST_AFTER
    if row.next_attempt_at is not None and row.next_attempt_at > row.queued_at:
        # None of its messages waits in the queue.
        since, longest = row.next_attempt_at, PAUSED_AT_MOST
    waited = view.now - since
    if not view.may_queue:
        return Postpone(row.id, min(max(waited, CHECK_AGAIN), longest))
    if since == row.queued_at and not view.idle and waited < LOST_AFTER:
        # Its message waits in the queue. The wait doubles each time, so that a long queue costs few checks.
        return Postpone(row.id, max(waited, CHECK_AGAIN))
    return Enqueue(row.id, row.mailing_id, alone=row.cut_offs >= ALONE_AFTER)


def _judge_sending(row: OpenRow, view: SweeperView) -> Change | Postpone:
    if row.cancelled and row.phase is Phase.ENVELOPE:
        # From now on the marker refuses its holder, which may have many such rows in memory.
        state, reason = DeliveryState.SKIPPED, CANCELLED
        if row.was_unknown:
            state, reason = DeliveryState.FAILED, OUTCOME_UNKNOWN
        return Change(row.id, row.claim, state, reason, untried=True)
    if row.lease_until is not None and row.lease_until > view.now:
        return Postpone(row.id, row.lease_until - view.now)
    if row.phase is Phase.DATA:
        missing = _missing(row, view)
        if missing > timedelta(0):
            return Postpone(row.id, min(missing, CHECK_AGAIN))
        reason = "cut off after the data had begun"
        if row.resends:
            return Change(row.id, row.claim, DeliveryState.FAILED, f"{OUTCOME_UNKNOWN}; resend: {reason}")
        return Change(row.id, row.claim, DeliveryState.UNKNOWN, reason)
    # Its holder may live, but the marker refuses it from now on. So nothing has to be waited for.
    if row.cut_offs + 1 >= CUT_OFFS:
        reason = f"cut off before the data, {CUT_OFFS} times"
        return Change(row.id, row.claim, DeliveryState.FAILED, reason, cut_off=True)
    state = DeliveryState.UNKNOWN if row.was_unknown else DeliveryState.RETRY
    return Change(row.id, row.claim, state, "cut off before the data", cut_off=True)


def _missing(row: OpenRow, view: SweeperView) -> timedelta:
    """How much longer PostgreSQL must be seen to answer before the row's holder counts as dead.

    Counted from one lease before the row's own ran out, because its holder may know the outcome since about then. While
    PostgreSQL answers, a living holder writes the outcome within seconds; after a full lease it has none to write.
    """
    since = (row.lease_until or view.now) - view.lease
    return view.lease - answered_between(view.answering, since, view.now)


def answered_between(stretches: Sequence[Stretch], since: datetime, until: datetime) -> timedelta:
    """For how long PostgreSQL was seen to answer in that time; what several stretches share counts once."""
    total = timedelta(0)
    for stretch in sorted(stretches):
        began, ended = max(stretch.since, since), min(stretch.until, until)
        if ended > began:
            total += ended - began
            since = ended
    return total


def _over(row: OpenRow, state: DeliveryState, reason: str) -> Change:
    """The change that ends a row that waits; a row of unknown outcome ends failed, with that reason."""
    if row.state is DeliveryState.UNKNOWN:
        return Change(row.id, row.claim, DeliveryState.FAILED, OUTCOME_UNKNOWN)
    return Change(row.id, row.claim, state, reason)
