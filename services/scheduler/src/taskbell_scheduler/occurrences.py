"""The occurrences of a cron expression in a zone: a pure function of a position, never of "now" alone.

The hour field decides how an expression is read:

* Fixed hours (also lists and ranges) name local times. Each nominal time counts once, whatever the clock
  does: one that the clock skips fires at the first instant after the gap, one that comes twice fires the
  first time. Nominal times that fall on one instant (`0,30 2,3` in a gap from 2:00 to 3:00) are one
  occurrence, under the key of the first of them.
* `*` and `*/n` hours name instants: each instant at which the local clock matches counts. So both of those
  count that a clock set back repeats, and none of those that it skips.

All instants are aware and in UTC. Occurrences are strictly ascending, so a position is an instant: later
occurrences are still to come, and going on from any position gives the same as one pass over everything.
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
"""Between these, datetime can express every local time; nothing occurs outside."""

_DAY = timedelta(days=1)
# Crossing the date line eastwards repeated 24 hours (Alaska 1867, Kwajalein 1969: 23).
_LONGEST_FOLD = timedelta(hours=25)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One moment at which a schedule is due in a zone."""

    at: datetime
    """The instant, in UTC."""
    key: str
    """Identifies it: `2026-10-25T02:30` (local nominal time) or `2026-10-25T00:30:00Z` (instant)."""


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

    Searches backwards from `until`, so that its cost depends on what it returns: even with a position that is years
    old it does not list a million minutes.
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
    """How many `occurrences()` there are. Days on which the clock does not change are counted without listing them."""
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
    """The instant of a local time: the first if it comes twice, the end of the gap if it does not come at all."""
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
    """Naive local times that match and are later than `after`, up to LATEST."""
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
    """How many naive local times match with `after` < time <= `until`; `until` is at most a day after `after`."""
    if after.date() == until.date():
        span = bisect_right(cron.times, until.time()) - bisect_right(cron.times, after.time())
        return span if cron.day_from(after.date()) == after.date() else 0
    first = len(cron.times) - bisect_right(cron.times, after.time())
    last = bisect_right(cron.times, until.time())
    return sum(times for day, times in ((after.date(), first), (until.date(), last)) if cron.day_from(day) == day)


def _start(zone: ZoneInfo, after: datetime) -> datetime:
    """A local time that is earlier than every nominal time whose instant is later than `after`.

    That is the local time at `after`; or, if the clock is about to be set back, the time that it is set back to.
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
    """The instants of a local time, by the offset before a change of the clock and by the offset after it.

    If they are equal, the clock does not change. If they ascend, the local time comes twice. If they descend, it does
    not come at all.
    """
    before = nominal.replace(tzinfo=zone, fold=0).utcoffset()
    after = nominal.replace(tzinfo=zone, fold=1).utcoffset()
    assert before is not None
    assert after is not None
    first = (nominal - before).replace(tzinfo=UTC)
    if before == after:
        return first, first
    second = (nominal - after).replace(tzinfo=UTC)
    # When a zone's list of changes ends and its rule for all later years begins, zoneinfo applies the rule's change in
    # that year already (Nuuk, 28 October 2023 at 23:30): only one of the two instants then has that local time.
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
