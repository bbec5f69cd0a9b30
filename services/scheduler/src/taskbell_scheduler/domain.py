"""What falls due, and whether it is published, missed or paused: the rules of docs/schedules.md as pure functions.

Nothing here reads a clock, a file or a database. `now` is the database's time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from taskbell_scheduler.occurrences import EARLIEST, Occurrence, newest_occurrences, next_occurrence
from taskbell_scheduler.schedules import Schedule

EVERY_ZONE = "*"
"""Takes a zone's place in the row of a schedule as a whole. Of that row only the pause counts."""

LISTED = 1000
"""How many missed or paused occurrences get their own rows if many are found at once; one row counts the rest."""

ON_TIME = timedelta(seconds=5)
"""An occurrence up to this late is on time, however short its catch-up window is."""

LONGEST_LOOK_BACK = timedelta(days=3660)
"""An older position counts as this old."""

Pair = tuple[str, str]
"""The name of a schedule and the name of a zone."""

OccurrenceStatus = Literal["published", "missed", "paused"]


@dataclass(frozen=True, slots=True)
class PairState:
    """A row of `schedule_state`."""

    schedule: str
    zone: str
    cron: str
    position: datetime
    """Every occurrence up to here is recorded."""
    active: bool = True
    paused: bool = False
    paused_at: datetime | None = None
    resumed_at: datetime | None = None
    """Set when the pause ended; cleared, with `paused_at`, once the occurrences in the pause are recorded."""
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
    """A span of time in which an operator did not want anything published."""

    since: datetime
    until: datetime | None
    """None: the pause goes on."""
    note: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """A row for `occurrence`: how one occurrence ended, or how `count` of them up to this one did."""

    at: datetime
    key: str
    status: OccurrenceStatus
    reason: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Decision:
    """What must be written for an entry, all of it or nothing."""

    entry: Entry
    records: Sequence[Record]
    """Ascending. Only the last one may be published."""
    position: datetime
    pause_ends: bool = False
    """Whether these records complete a pause that is over, so that its times can be cleared."""

    @property
    def published(self) -> Record | None:
        """The occurrence to publish now; None: there is none."""
        return self.records[-1] if self.records and self.records[-1].status == "published" else None


def pause_of(state: PairState, everywhere: PairState | None) -> Pause | None:
    """The pause that is in force or not yet recorded: of this zone, of the whole schedule, or of both combined."""
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
    """When `decide` will next have something to record; None: never."""
    pause = pause_of(state, everywhere)
    if pause and pause.until:
        return EARLIEST
    following = next_occurrence(entry.schedule.cron, entry.zone, after=state.position)
    return following.at if following else None


def decide(entry: Entry, state: PairState, everywhere: PairState | None, now: datetime) -> Decision:
    """Decides about every occurrence that fell due after the position and up to now.

    The newest is published if it is inside its catch-up window; the others are missed, or paused if they fell into a
    pause. In a long list the newest LISTED get a row each, and one row counts the rest.
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


def _listed(
    entry: Entry, after: datetime, until: datetime, room: int, status: OccurrenceStatus, reason: str
) -> list[Record]:
    found, older = _newest(entry, after, until, max(room, 0))
    return _records(found, older, status, reason)


def _newest(entry: Entry, after: datetime, until: datetime, room: int) -> tuple[list[Occurrence], int]:
    """The newest `room` occurrences, preceded by the one that stands for all older ones, and how many those are."""
    return newest_occurrences(entry.schedule.cron, entry.zone, after=after, until=until, limit=room + 1)


def _records(found: Sequence[Occurrence], older: int, status: OccurrenceStatus, reason: str) -> list[Record]:
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
