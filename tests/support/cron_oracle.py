"""Two readings of cron expressions that share nothing with the scheduler's own.

`by_cronsim` asks another library; it is right for schedules at fixed hours. `by_minutes` looks at every minute of a
span and asks the local clock; it is right for `*` hours.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim

from taskbell.zones import resolve_zone


def iana_zones() -> list[str]:
    """Every zone that Taskbell knows."""
    return sorted(zone for zone in available_timezones() if resolve_zone(zone))


def rules(zone: str) -> ZoneInfo:
    """The zone with the rules that Taskbell pins: a machine's own may be older or newer."""
    found = resolve_zone(zone)
    assert found, zone
    return found


def by_cronsim(cron: str, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """The instants with `after` < at <= `until`, in UTC, as cronsim sees them."""
    # It begins strictly after the local time that it is given; an hour earlier is safe, the filter does the rest.
    found = CronSim(cron, (after - timedelta(hours=26)).astimezone(zone))
    return list(_between(found, after, until))


def _between(found: Iterator[datetime], after: datetime, until: datetime) -> Iterator[datetime]:
    for local in found:
        at = local.astimezone(UTC)
        if at > until:
            return
        if at > after:
            yield at


@dataclass(frozen=True)
class Matcher:
    """An expression as plain sets of numbers; `weekdays` from 1 for Monday to 7 for Sunday."""

    minutes: Collection[int]
    hours: Collection[int] = range(24)
    days: Collection[int] = range(1, 32)
    months: Collection[int] = range(1, 13)
    weekdays: Collection[int] = range(1, 8)

    def matches(self, local: datetime) -> bool:
        return (
            local.minute in self.minutes
            and local.hour in self.hours
            and local.day in self.days
            and local.month in self.months
            and local.isoweekday() in self.weekdays
        )


def by_minutes(matcher: Matcher, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """The instants at whole minutes with `after` < at <= `until` at which the local clock matches."""
    found = []
    at = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
    while at <= until:
        if matcher.matches(at.astimezone(zone)):
            found.append(at)
        at += timedelta(minutes=1)
    return found


def clock_changes(zone: ZoneInfo, first: int, last: int) -> list[datetime]:
    """The UTC midnights of the days in those years during which the zone's offset from UTC changes."""
    day, end = datetime(first, 1, 1, tzinfo=UTC), datetime(last + 1, 1, 1, tzinfo=UTC)
    found = []
    while day < end:
        tomorrow = day + timedelta(days=1)
        if day.astimezone(zone).utcoffset() != tomorrow.astimezone(zone).utcoffset():
            found.append(day)
        day = tomorrow
    return found
