"""The occurrences of a cron expression in a zone: a pure function from a position, never from "now" alone.

Two readings, chosen by the hour field:

* Fixed hours (also lists and ranges) name local times. Each nominal time counts once, whatever the clock
  does: one that is skipped fires at the first instant after the gap, one that comes twice fires at the first.
  Nominal times that end up at one instant (`0,30 2,3` in a gap from 2:00 to 3:00) are one occurrence, under
  the key of the first of them.
* `*` and `*/n` hours name instants: each one at which the local clock matches counts, both of those that a
  clock set back repeats, none of those that it skips.

All instants are aware and in UTC. Occurrences come strictly ascending, so a position is simply an instant:
what lies after it is still to come, and going on from any position gives what one pass would have given.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from heapq import heappop, heappush
from zoneinfo import ZoneInfo

from taskbell_scheduler.cron import Cron

EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)
"""Between these every local time can be written down; nothing occurs outside."""

_DAY = timedelta(days=1)
_LONGEST_FOLD = timedelta(hours=25)
# Crossing the date line eastwards repeated 24 hours (Alaska 1867, Kwajalein 1969: 23).


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One moment at which a schedule is due in a zone."""

    at: datetime
    """The instant, in UTC."""
    key: str
    """What makes it this one: `2026-10-25T02:30` (local nominal time) or `2026-10-25T00:30:00Z` (instant)."""


def occurrences(cron: Cron, zone: ZoneInfo, *, after: datetime, until: datetime = LATEST) -> Iterator[Occurrence]:
    """All occurrences with `after` < at <= `until`, ascending."""
    after, until = max(after, EARLIEST), min(until, LATEST)
    found = _of_instants(cron, zone, after, until) if cron.by_instant else _of_nominals(cron, zone, after, until)
    return (occurrence for occurrence in found if occurrence.at > after)


def next_occurrence(cron: Cron, zone: ZoneInfo, *, after: datetime) -> Occurrence | None:
    """The first occurrence later than `after`, or None."""
    return next(occurrences(cron, zone, after=after), None)


def newest_occurrences(
    cron: Cron, zone: ZoneInfo, *, after: datetime, until: datetime, limit: int
) -> tuple[list[Occurrence], int]:
    """The newest `limit` occurrences of `occurrences()`, ascending, and how many older ones there are.

    Looks from `until` backwards, so that it costs what it returns and not what lies between: a position left
    behind for years is no reason to list a million minutes.
    """
    newest: list[Occurrence] = []
    edge, window = until, _DAY
    while edge > after and len(newest) < limit:
        start = max(after, edge - window)
        newest[:0] = occurrences(cron, zone, after=start, until=edge)
        edge, window = start, window * 2
    older = count_occurrences(cron, zone, after=after, until=edge) + max(0, len(newest) - limit)
    return newest[max(0, len(newest) - limit) :], older


def count_occurrences(cron: Cron, zone: ZoneInfo, *, after: datetime, until: datetime) -> int:
    """How many `occurrences()` there are, counted by days where the clock does not change."""
    total, start = 0, max(after, EARLIEST)
    while start < until:
        end = min(start + _DAY, until)
        offset = _offset(zone, start)
        steady = _offset(zone, max(start - _LONGEST_FOLD, EARLIEST)) == offset == _offset(zone, end)
        if steady:
            total += _times_between(cron, _local(start, offset), _local(end, offset))
        else:
            total += sum(1 for _ in occurrences(cron, zone, after=start, until=end))
        start = end
    return total


def local_instant(nominal: datetime, zone: ZoneInfo) -> datetime:
    """The instant of a local time: the first where there are two, the end of the gap where there is none."""
    first, second = _readings(nominal, zone)
    return _end_of_gap(nominal, zone, second, first) if first > second else first


def _of_nominals(cron: Cron, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[Occurrence]:
    last: datetime | None = None
    for nominal in _nominal_times(cron, _start(zone, after)):
        at = local_instant(nominal, zone)
        if at > until:
            return
        if at != last:
            yield Occurrence(at, nominal.isoformat(timespec="minutes"))
        last = at


def _of_instants(cron: Cron, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[Occurrence]:
    repeated: list[datetime] = []
    for nominal in _nominal_times(cron, _start(zone, after)):
        first, second = _readings(nominal, zone)
        earliest = min(first, second)
        while repeated and repeated[0] < min(earliest, until):
            yield _instant(heappop(repeated))
        if earliest > until:
            break
        if first > second:
            continue  # skipped by the clock: no instant shows this local time
        if second > first:
            heappush(repeated, second)
        yield _instant(first)
    while repeated and repeated[0] <= until:
        yield _instant(heappop(repeated))


def _instant(at: datetime) -> Occurrence:
    return Occurrence(at, at.isoformat(timespec="seconds").replace("+00:00", "Z"))


def _nominal_times(cron: Cron, after: datetime) -> Iterator[datetime]:
    """Naive local times that match and are later than `after`, to the end of time."""
    day: date | None = after.date()
    passed = after.time()
    while day is not None and day < LATEST.date() + 2 * _DAY:
        found = cron.day_from(day)
        if found is None:
            return
        times = cron.times[bisect_right(cron.times, passed) :] if found == after.date() else cron.times
        for moment in times:
            yield datetime.combine(found, moment)
        day = found + _DAY


def _times_between(cron: Cron, after: datetime, until: datetime) -> int:
    """How many naive local times match with `after` < time <= `until`, at most a day later."""
    if after.date() == until.date():
        span = bisect_right(cron.times, until.time()) - bisect_right(cron.times, after.time())
        return span if cron.day_from(after.date()) == after.date() else 0
    first = len(cron.times) - bisect_right(cron.times, after.time())
    last = bisect_right(cron.times, until.time())
    return sum(times for day, times in ((after.date(), first), (until.date(), last)) if cron.day_from(day) == day)


def _start(zone: ZoneInfo, after: datetime) -> datetime:
    """A local time such that every nominal time with an instant later than `after` is later than it.

    That is the local clock at `after`, or, with a clock about to be set back, what it will be set back to.
    """
    soon = min(after + _LONGEST_FOLD, LATEST)
    return _local(after, min(_offset(zone, after), _offset(zone, soon)))


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _local(at: datetime, offset: timedelta) -> datetime:
    return at.replace(tzinfo=None) + offset


def _readings(nominal: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The instants of a local time by the offset before a change of the clock and by the one after it.

    Equal: no change. Ascending: the local time comes twice. Descending: it does not come at all.
    """
    before = nominal.replace(tzinfo=zone, fold=0).utcoffset()
    after = nominal.replace(tzinfo=zone, fold=1).utcoffset()
    assert before is not None
    assert after is not None
    first = (nominal - before).replace(tzinfo=UTC)
    if before == after:
        return first, first
    second = (nominal - after).replace(tzinfo=UTC)
    # Where a zone's list of changes ends and its rule for all later years begins, zoneinfo takes the rule's change for
    # one of this year's (Nuuk, 28 October 2023 at 23:30): only one of the two instants then shows that local time.
    shown = [at for at in (first, second) if at.astimezone(zone).replace(tzinfo=None) == nominal]
    return (shown[0], shown[0]) if len(shown) == 1 else (first, second)


def _end_of_gap(nominal: datetime, zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first instant whose local time is later than `nominal`: later than `before`, at most `after`."""
    low, high = 0, int((after - before).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        at = before + timedelta(seconds=middle)
        if _local(at, _offset(zone, at)) > nominal:
            high = middle
        else:
            low = middle
    return before + timedelta(seconds=high)
