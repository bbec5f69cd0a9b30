"""A delivery's life, as pure functions over its row.

    planned → sending/envelope → sending/data → sent
                 │                   └ died, stalled or cut off before the commit → unknown → one resend → sent | failed
                 ├ 4xx, drop before the data → retry → …
                 └ failed | suppressed | skipped | expired

`after_submission` says what a submission's verdict makes of a row; `judge` what a sweeper does about a row whose time
has come. Both only say it: the ledger and the sweeper write it, each under its own fence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Any
from uuid import UUID

from taskbell_notifier.smtp.replies import Stage, Submission, Verdict, retry_delay


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
    """Where a row that is being sent stands."""

    ENVELOPE = "envelope"
    """Not a byte of the message has gone."""
    DATA = "data"
    """The message may have gone, in part or whole."""


ENDED = frozenset(
    {DeliveryState.SENT, DeliveryState.SKIPPED, DeliveryState.SUPPRESSED, DeliveryState.EXPIRED, DeliveryState.FAILED}
)

HOLD = timedelta(hours=48)
"""After T a held row of unknown outcome ends."""

UNTRIED_PAUSE = timedelta(seconds=10)
"""Until a row that could not be tried is looked at again; while sending is paused the sweeper waits longer."""

LOOK_AGAIN = timedelta(seconds=15)
"""Until a row about which nothing can be done now is looked at again."""

IN_QUEUE = timedelta(seconds=150)
"""How long a row's message may take through the queue before anybody wonders where it is."""

PAUSED_AT_MOST = timedelta(minutes=5)
"""Between looks at a row that is due while sending is paused, and so after the pause until it is queued."""

LOST_AFTER = timedelta(minutes=30)
"""A message that took so long is written again although the queue is still busy."""

CUT_OFFS = 20
"""Deaths before the data after which a row is given up: it may be what kills its process."""

ALONE_AFTER = 2
"""Deaths after which a row goes in a message of its own, so that a killer takes no others with it."""

OUTCOME_UNKNOWN = "outcome unknown"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row that this process may send, while its claim lasts."""

    id: int
    mailing_id: int
    kind: str
    """The name of its kind; of a package that may not be installed any more."""
    user_id: int | None
    address: str | None
    """Of a row that goes to an address instead of a user."""
    at: datetime
    """T of its mailing."""
    props: Mapping[str, Any]
    claim: UUID
    before: DeliveryState
    """What it was when it was claimed."""
    attempts: int
    """This one included."""
    suspect: bool
    """Its outcome was unknown once: this is the one resend."""
    message_id: str


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written to a row, if it still carries that claim."""

    id: int
    claim: UUID | None
    state: DeliveryState
    reason: str
    wait: timedelta = timedelta(0)
    """Until the next try; of no meaning where the row ends."""
    untried: bool = False
    """Not a byte of the message has gone: the claim is not counted as a try."""
    cut_off: bool = False
    """Its process died, or stalled, before the data."""
    address: str | None = None
    suppress: bool = False
    """The address takes no mail, ever: put it on the list."""


@dataclass(frozen=True, slots=True)
class Postpone:
    """Nothing to do about the row before that time is over."""

    id: int
    wait: timedelta


@dataclass(frozen=True, slots=True)
class Enqueue:
    """The row is to be sent: write a message for it."""

    id: int
    mailing_id: int
    alone: bool = False


def ended(row: Claimed, state: DeliveryState, reason: str, *, address: str | None = None) -> Change:
    """The end of a row that was not submitted; whatever the claim was for, no try is counted."""
    return Change(row.id, row.claim, state, reason, untried=True, address=address)


def returned(row: Claimed, reason: str, wait: timedelta = UNTRIED_PAUSE) -> Change:
    """The row as it was, for somebody else or for later."""
    return Change(row.id, row.claim, row.before, reason, wait, untried=True)


def after_submission(row: Claimed, submission: Submission, address: str, rng: Random) -> Change:
    """What the verdict on its mail makes of a row (the table in docs/mail.md)."""
    verdict, reason = submission.verdict, submission.reason
    if not verdict.is_try:
        return returned(row, reason)
    resent = row.suspect and submission.stage is Stage.MESSAGE
    if verdict is Verdict.ACCEPTED:
        state = DeliveryState.SENT
    elif verdict is Verdict.FAILED or resent:
        # The drawing's end: whatever the server says to the one resend, there is no second.
        state = DeliveryState.FAILED
    elif verdict is Verdict.UNKNOWN or row.suspect:
        state = DeliveryState.UNKNOWN
    else:
        state = DeliveryState.RETRY
    if row.suspect and state is DeliveryState.FAILED:
        reason = f"{OUTCOME_UNKNOWN}; resend: {reason}"
    wait = timedelta(0) if state in ENDED else retry_delay(row.attempts, rng)
    # The server may leave between the marker, which counts the resend, and the first byte: then there was none.
    unsent = state is DeliveryState.UNKNOWN and submission.stage is Stage.DATA
    return Change(row.id, row.claim, state, reason, wait, unsent, address=address, suppress=submission.suppress)


@dataclass(frozen=True, slots=True)
class OpenRow:
    """A row that has not ended, as a sweeper sees it."""

    id: int
    mailing_id: int
    at: datetime
    cancelled: bool
    """Its mailing was."""
    state: DeliveryState
    phase: Phase | None
    claim: UUID | None
    lease_until: datetime | None
    resends: int
    cut_offs: int
    suspect: bool
    next_attempt_at: datetime | None
    queued_at: datetime
    expires_at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class SweeperView:
    """What a sweeper knows besides the row."""

    now: datetime
    """The database's clock."""
    may_judge: bool
    """PostgreSQL has answered for a full lease: whoever still lives has renewed its leases."""
    may_queue: bool
    """Sending is not paused, and written messages find their way to the broker."""
    idle: bool
    """This process has had no message to send for a while: the queue is empty."""
    hold: bool
    """UNKNOWN_POLICY: rows of unknown outcome are not sent again."""


def judge(row: OpenRow, view: SweeperView) -> Change | Postpone | Enqueue:
    """What to do about a row whose `due_at` has come."""
    if row.state is DeliveryState.SENDING:
        return _judge_sending(row, view)
    if row.cancelled:
        return _over(row, DeliveryState.SKIPPED, "mailing cancelled")
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
        since, longest = row.next_attempt_at, PAUSED_AT_MOST  # no message of it waits to be sent on
    waited = view.now - since
    if not view.may_queue:
        return Postpone(row.id, min(max(waited, LOOK_AGAIN), longest))
    if since == row.queued_at and not view.idle and waited < LOST_AFTER:
        # Its message waits its turn. To double the pause each time keeps a long queue cheap.
        return Postpone(row.id, max(waited, LOOK_AGAIN))
    return Enqueue(row.id, row.mailing_id, alone=row.cut_offs >= ALONE_AFTER)


def _judge_sending(row: OpenRow, view: SweeperView) -> Change | Postpone:
    if row.lease_until is not None and row.lease_until > view.now:
        return Postpone(row.id, row.lease_until - view.now)
    if not view.may_judge:
        return Postpone(row.id, LOOK_AGAIN)
    if row.phase is Phase.DATA:
        reason = "cut off after the data had begun"
        if row.resends:
            return Change(row.id, row.claim, DeliveryState.FAILED, f"{OUTCOME_UNKNOWN}; resend: {reason}")
        return Change(row.id, row.claim, DeliveryState.UNKNOWN, reason)
    if row.cut_offs + 1 >= CUT_OFFS:
        reason = f"cut off before the data, {CUT_OFFS} times"
        return Change(row.id, row.claim, DeliveryState.FAILED, reason, cut_off=True)
    state = DeliveryState.UNKNOWN if row.suspect else DeliveryState.RETRY
    return Change(row.id, row.claim, state, "cut off before the data", cut_off=True)


def _over(row: OpenRow, state: DeliveryState, reason: str) -> Change:
    """The end of a row that waits; one that may have been delivered ends as what it is."""
    if row.state is DeliveryState.UNKNOWN:
        return Change(row.id, row.claim, DeliveryState.FAILED, OUTCOME_UNKNOWN)
    return Change(row.id, row.claim, state, reason)
