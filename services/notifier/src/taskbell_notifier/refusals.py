"""Judges refusals: which are the recipient's fault, and which are met by everybody and so are ours.

Pure functions over what the database has kept; docs/mail.md, "What a server's reply does", has the rule in words.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from taskbell_notifier.lifecycle import BLAME_AFTER, DeliveryState

WAITING = frozenset({DeliveryState.RETRY, DeliveryState.UNKNOWN})
"""States of a row that waits for its judgement."""

HELD_AT_MOST = timedelta(hours=48)
"""After this time a refusal is forgotten for which sending paused and was never resumed."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One refusal, with what has become of its row since."""

    delivery_id: int
    mailing_id: int | None
    person: str
    words: str
    reason: str
    refused_at: datetime
    held_at: datetime | None
    """Since when sending is paused for it; None: it is not."""
    state: DeliveryState | None
    """Of its row; None: the row is gone."""
    claim: UUID | None
    taken_at: datetime | None
    """When a mail to somebody else was first taken after it, or after the pause."""
    now: datetime
    """The database's clock."""


@dataclass(slots=True)
class Judgement:
    """What is to be done about the refusals."""

    hold: dict[str, list[Refused]] = field(default_factory=dict)
    """By words: so many people met them in a row that sending pauses; nobody ends for them."""
    paused: dict[str, list[Refused]] = field(default_factory=dict)
    """By words: sending is paused for these."""
    fail: list[Refused] = field(default_factory=list)
    """The recipient's fault; the row waits, and is to end."""
    release: list[Refused] = field(default_factory=list)
    """Sending goes on; the row waits, and is to be tried at once."""
    again: list[Refused] = field(default_factory=list)
    """Sending goes on; the row had ended, and is to be planned again."""
    drop: list[Refused] = field(default_factory=list)
    """Nothing is to be kept any more; those of `fail`, `release` and `again` are not repeated here."""


def judge_refusals(
    refusals: Iterable[Refused], *, needed: Callable[[str], int], knows: Callable[[str, str], bool]
) -> Judgement:
    """Judges refusals, which are in the order in which they were met.

    Args:
        needed: how many people in a row make these words ours.
        knows: whether a person met these words before, although the server took mail to others.
    """
    found = Judgement()
    by_words: dict[str, list[Refused]] = {}
    for it in refusals:
        if it.held_at is not None:
            _judge_held(it, found)
        elif it.state in WAITING or it.state is DeliveryState.FAILED:
            by_words.setdefault(it.words, []).append(it)
        elif it.state is not DeliveryState.SENDING:
            found.drop.append(it)
    for words, met in by_words.items():
        held = set() if words not in found.paused else {it.delivery_id for it in met}
        held |= _in_a_row(met, needed(words), knows)
        if held:
            found.hold[words] = [it for it in met if it.delivery_id in held]
        for it in met:
            if it.delivery_id not in held:
                _judge_alone(it, found)
    return found


def _judge_held(it: Refused, found: Judgement) -> None:
    if it.state in WAITING or it.state is DeliveryState.FAILED:
        if it.taken_at is not None:
            (found.release if it.state in WAITING else found.again).append(it)
            return
        if it.held_at is not None and it.now - it.held_at < HELD_AT_MOST:
            found.paused.setdefault(it.words, []).append(it)
            return
    if it.state is not DeliveryState.SENDING:
        found.drop.append(it)


def _judge_alone(it: Refused, found: Judgement) -> None:
    if it.taken_at is None and it.now - it.refused_at < BLAME_AFTER:
        return
    (found.fail if it.state in WAITING else found.drop).append(it)


def _in_a_row(met: Sequence[Refused], needed: int, knows: Callable[[str, str], bool]) -> set[int]:
    """The ids of refusals that so many people met while the server took no mail to anybody else."""
    held: set[int] = set()
    run: list[Refused] = []
    for it in met:
        run = [other for other in run if other.taken_at is None or other.taken_at >= it.refused_at]
        run.append(it)
        people = {other.person for other in run if not knows(other.words, other.person)}
        if len(people) >= needed:
            held.update(other.delivery_id for other in run)
    return held


def reasons(paused: Mapping[str, Sequence[Refused]]) -> dict[str, str]:
    """By words, the reason of the last of these refusals."""
    return {words: max(met, key=lambda it: it.refused_at).reason for words, met in paused.items()}
