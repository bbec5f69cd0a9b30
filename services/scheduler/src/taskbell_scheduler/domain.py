"""What falls due, and what becomes of it: the sentences of docs/schedules.md as pure functions.

Nothing here reads a clock, a file or a database. `now` is the database's clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from taskbell_scheduler.occurrences import EARLIEST, Occurrence, newest_occurrences, next_occurrence
from taskbell_scheduler.schedules import Schedule

EVERY_ZONE = "*"
"""In place of a zone: the state of a schedule as a whole. Only its pause counts."""

LISTED = 1000
"""How many missed or paused occurrences get a row of their own when many are found at once."""

ON_TIME = timedelta(seconds=5)
"""An occurrence this late was not missed, however short its catch-up window is."""

LONGEST_LOOK_BACK = timedelta(days=3660)
"""A position that lies further back counts as this old."""

_MESSAGES = UUID("6f0f7ad5-5d0b-5b3e-9f5b-6a4f0f1c2f7e")
# Never changes: it makes a scheduler that comes later give an occurrence the same message_id.

Pair = tuple[str, str]
"""A schedule's name and a zone's."""

Status = Literal["published", "missed", "paused"]


@dataclass(frozen=True, slots=True)
class PairState:
    """A row of `schedule_state`."""

    schedule: str
    zone: str
    cron: str
    position: datetime
    """Everything up to here has been dealt with."""
    active: bool = True
    paused: bool = False
    paused_at: datetime | None = None
    resumed_at: datetime | None = None
    """Set together with `paused_at`, but no longer paused: what fell due in that pause is still to be recorded."""
    generation: int = 0
    note: str | None = None

    @property
    def pair(self) -> Pair:
        return self.schedule, self.zone


@dataclass(frozen=True, slots=True)
class Entry:
    """A schedule in one of its zones."""

    schedule: Schedule
    zone: ZoneInfo

    @property
    def pair(self) -> Pair:
        return self.schedule.name, self.zone.key


@dataclass(frozen=True, slots=True)
class Pause:
    """A span in which nothing was published on purpose."""

    since: datetime
    until: datetime | None
    """None: it goes on."""
    note: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """A row for `occurrence`: what became of one occurrence, or of `count` up to this one."""

    at: datetime
    key: str
    status: Status
    reason: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be written for an entry, together or not at all."""

    entry: Entry
    records: Sequence[Record]
    """Ascending; at most one is published, the last."""
    position: datetime
    pause_ends: bool = False
    """What fell due in a pause is recorded with this, so its marks can go."""

    @property
    def published(self) -> Record | None:
        """The occurrence that is to be published now."""
        return self.records[-1] if self.records and self.records[-1].status == "published" else None


def message_id(entry: Entry, key: str) -> str:
    """The same for the same occurrence, whoever publishes it and when."""
    # Names have no slash and keys neither, so this cannot be read in two ways.
    return str(uuid5(_MESSAGES, f"{entry.schedule.name}/{entry.zone.key}/{key}"))


def pause_of(state: PairState, everywhere: PairState | None) -> Pause | None:
    """The pause that is to be heeded or still to be recorded: of this zone, of the whole schedule, or of both."""
    marks = [mark for mark in (state, everywhere) if mark and (mark.paused or mark.paused_at)]
    if not marks:
        return None
    since = min(mark.paused_at or state.position for mark in marks)
    note = next((mark.note for mark in marks if mark.note), None)
    ends = [mark.resumed_at for mark in marks if mark.resumed_at and not mark.paused]
    if len(ends) < len(marks):
        return Pause(since, None, note)
    until = max(ends)
    return None if state.position >= until and not state.paused_at else Pause(since, until, note)


def next_due(entry: Entry, state: PairState, everywhere: PairState | None) -> datetime | None:
    """When `decide` will next have something to decide; None: never."""
    pause = pause_of(state, everywhere)
    if pause and pause.until:
        return EARLIEST
    following = next_occurrence(entry.schedule.cron, entry.zone, after=state.position)
    return following.at if following else None


def decide(entry: Entry, state: PairState, everywhere: PairState | None, now: datetime) -> Decision:
    """What becomes of everything that fell due after the position and up to now.

    The newest is published if it is inside its catch-up window; the others were missed, or fell into a pause. A long
    list is cut: the newest LISTED get a row each, one row counts the rest.
    """
    start = max(state.position, now - LONGEST_LOOK_BACK)
    pause = pause_of(state, everywhere)
    if pause is None:
        records = _running(entry, start, now, LISTED)
        return Decision(entry, records, records[-1].at if records else state.position)
    until = min(pause.until or now, now)
    since = min(pause.since, until)
    records = _running(entry, max(start, until), now, LISTED)
    reason = f"paused: {pause.note}" if pause.note else "paused"
    records = [*_listed(entry, max(start, since), until, LISTED - len(records), "paused", reason), *records]
    records = [*_listed(entry, start, since, LISTED - len(records), "missed", "no scheduler ran"), *records]
    ended = [until] if pause.until else []
    position = max([state.position, *ended, *(record.at for record in records[-1:])])
    return Decision(entry, records, position, pause_ends=bool(ended))


def _running(entry: Entry, after: datetime, now: datetime, room: int) -> list[Record]:
    found, older = _newest(entry, after, now, room + 1)
    if not found:
        return []
    newest = found.pop()
    late = now - newest.at
    if late <= max(entry.schedule.catch_up, ON_TIME):
        last = Record(newest.at, newest.key, "published")
        reason = f"replaced by {newest.key}"
    else:
        last = Record(newest.at, newest.key, "missed", f"noticed {_words(late)} late, outside its catch-up window")
        reason = "no scheduler ran"
    return [*_records(found, older, "missed", reason), last]


def _listed(entry: Entry, after: datetime, until: datetime, room: int, status: Status, reason: str) -> list[Record]:
    found, older = _newest(entry, after, until, max(room, 0))
    return _records(found, older, status, reason)


def _newest(entry: Entry, after: datetime, until: datetime, room: int) -> tuple[list[Occurrence], int]:
    """The newest `room` occurrences and before them the one that stands for all older ones, if there are any."""
    return newest_occurrences(entry.schedule.cron, entry.zone, after=after, until=until, limit=room + 1)


def _records(found: Sequence[Occurrence], older: int, status: Status, reason: str) -> list[Record]:
    records = [Record(occurrence.at, occurrence.key, status, reason) for occurrence in found]
    if older:
        records[0] = Record(found[0].at, found[0].key, status, reason, count=older + 1)
    return records


def _words(length: timedelta) -> str:
    seconds = int(length.total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
