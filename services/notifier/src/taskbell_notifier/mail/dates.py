"""Dates, times, numbers and distances in one locale, through Babel.

Formatting a date costs more than the rest of a task's entry, and due dates repeat, so formatted texts are kept in
caches of bounded size. Every argument is in the recipient's local time.
"""

from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Literal

from babel import Locale, dates, numbers

Unit = Literal["minute", "hour", "day"]

_ZONES_KEPT = 1024
_HOUR = timedelta(hours=1)
_HOURS_UP_TO = 36 * _HOUR
"""Longer distances are given in days: "in 26 hours" is more exact than "in 1 day"."""


class Dates:
    """Moments, numbers and distances as one locale writes them."""

    def __init__(self, locale: Locale) -> None:
        self.locale = locale
        # Date and time in this locale's order, such as "{1}, {0}".
        self._joined = str(locale.datetime_formats["medium"])
        self.time = lru_cache(maxsize=1440)(self._time)
        self.day = lru_cache(maxsize=1024)(self._day)
        self.moment = lru_cache(maxsize=2048)(self._moment)
        self.number = lru_cache(maxsize=512)(self._number)
        self._zones: dict[tuple[str, timedelta | None], str] = {}
        self._distance = lru_cache(maxsize=512)(self._format_distance)

    def _time(self, hour: int, minute: int) -> str:
        return dates.format_time(datetime(2000, 1, 1, hour, minute), "short", locale=self.locale)  # noqa: DTZ001 (a time of day has no zone)

    def _day(self, day: date, year: int) -> str:
        """ "Thu, 19 Nov"; with its year if that is not `year`."""
        return dates.format_skeleton("MMMEd" if day.year == year else "yMMMEd", day, locale=self.locale)

    def _moment(self, day: date, hour: int, minute: int, year: int) -> str:
        """ "Thu, 19 Nov, 17:30"."""
        return self._joined.replace("{1}", self.day(day, year)).replace("{0}", self.time(hour, minute))

    def short_day(self, day: date) -> str:
        """ "19 Nov"."""
        return dates.format_skeleton("MMMd", day, locale=self.locale)

    def long_day(self, day: date) -> str:
        """ "Thursday, 19 November 2026"."""
        return dates.format_date(day, "full", locale=self.locale)

    def distance(self, delta: timedelta) -> str:
        """ "in 5 hours", "12 minutes ago"; never "0 minutes", and days only beyond a day and a half."""
        away = abs(delta)
        unit: Unit
        if away < _HOUR - timedelta(seconds=30):
            unit, count = "minute", max(1, round(away / timedelta(minutes=1)))
        elif away < _HOURS_UP_TO:
            unit, count = "hour", round(away / _HOUR)
        else:
            unit, count = "day", round(away / timedelta(days=1))
        return self._distance(unit, count if delta >= timedelta() else -count)

    def _format_distance(self, unit: Unit, count: int) -> str:
        delta = timedelta(**{f"{unit}s": count})
        # The threshold keeps Babel from using the next larger unit: 24 hours stay 24 hours.
        return dates.format_timedelta(delta, granularity=unit, threshold=1000, add_direction=True, locale=self.locale)

    def _number(self, number: int) -> str:
        return numbers.format_decimal(number, locale=self.locale)

    def zone(self, local: datetime) -> str:
        """The zone of a local moment, "Central European Standard Time (Europe/Berlin)"."""
        key = (str(local.tzinfo), local.utcoffset())
        name = self._zones.get(key)
        if name is None:
            if len(self._zones) >= _ZONES_KEPT:
                self._zones.clear()
            name = f"{dates.get_timezone_name(local, locale=self.locale)} ({local.tzinfo})"
            self._zones[key] = name
        return name
