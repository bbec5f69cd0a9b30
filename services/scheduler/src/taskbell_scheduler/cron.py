"""Cron expressions: five fields, checked with a reason for each mistake, parsed by croniter.

croniter decides what an expression means. This module refuses what croniter accepts but reads differently from
cron (`8-8` as "every hour"), draws at random (R), or silently drops (a day of month beside `mon#1`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from itertools import product

from croniter import croniter
from croniter.croniter import CroniterBadDateError, CroniterError

from taskbell.spelling import did_you_mean
from taskbell_scheduler.steps import every

MAX_LENGTH = 200
"""Characters that an expression may have at most."""

_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY = range(5)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

_HASHED = re.compile(r"[hr](\(.*\))?(/.*)?", re.ASCII)
_NTH_WEEKDAY = re.compile(r"(\w+)#(\d+)|l([0-7])", re.ASCII)
_NEAREST_WEEKDAY = re.compile(r"(\d+)w|w(\d+)", re.ASCII)

# At any time the zones' dates differ by two days at most, so a few would do. The limit is for searches over years.
_REMEMBERED_DAYS = 256


class CronError(ValueError):
    """This is not a valid cron expression; the error's text says why, and what to write instead."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    named_from: int = 0

    def value(self, word: str) -> int:
        if word in self.names:
            return self.names.index(word) + self.named_from
        if word.isascii() and word.isdigit():
            if self.low <= int(word) <= self.high:
                return int(word)
            raise CronError(f"{self.name}: {word} is out of range, {self.low} to {self.high}")
        if word.startswith("-"):
            raise CronError(f"{self.name}: {word!r} is negative")
        hint = did_you_mean(word[:3], self.names)
        raise CronError(f"{self.name}: {word!r} is not a number from {self.low} to {self.high}{self._or_name()}{hint}")

    @property
    def last(self) -> int:
        """The highest value that is not another name of a lower one: Sunday is 0 and 7."""
        return 6 if self.high == 7 else self.high

    def span(self, text: str) -> tuple[int, int]:
        """The lowest and the highest value of what stands before a step."""
        if text == "*":
            return self.low, self.last
        first, dash, last = text.partition("-")
        if not dash and first == "7" and self.high == 7:
            first = "0"
        return self.value(first), self.value(last) if dash else self.last

    def _or_name(self) -> str:
        return f" or a name such as {self.names[0]}" if self.names else ""


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS, 1),
    _Field("day of week", 0, 7, _WEEKDAYS),
)
_UNITS = ("minutes", "hours", "days", "months", "days")
_FIELD_NAMES = ", ".join(kind.name for kind in _FIELDS)


@dataclass(frozen=True)
class Cron:
    """A checked expression: the times of a day, and the days. Only `parse_cron` makes it."""

    text: str
    warnings: tuple[str, ...] = field(repr=False, compare=False)
    """What it does that its writer may not mean, in sentences that begin with the field."""
    times: tuple[time, ...] = field(repr=False)
    """The times of a matching day, ascending."""
    by_instant: bool = field(repr=False)
    """True for `*` and `*/n` hours: each matching instant counts. False: each local nominal time counts once."""
    _every_day: bool = field(repr=False, compare=False)
    _days: croniter = field(repr=False, compare=False)
    _known: dict[date, date | None] = field(repr=False, compare=False, default_factory=dict)

    def day_from(self, day: date) -> date | None:
        """The first matching day that is not before `day`; None: there is none within 50 years."""
        if self._every_day:
            return day
        if day not in self._known:
            if len(self._known) >= _REMEMBERED_DAYS:
                self._known.clear()
            self._known.update(self._days_until_next(day))
        return self._known[day]

    def _days_until_next(self, day: date) -> Iterator[tuple[date, date | None]]:
        eve = datetime.combine(day, time()) - timedelta(minutes=1)
        try:
            found: date = self._days.get_next(datetime, start_time=eve).date()
        except CroniterBadDateError:
            yield day, None
            return
        # The answer holds for every day up to `found`: for a weekly schedule, croniter is asked once a week.
        for ahead in range(min((found - day).days + 1, _REMEMBERED_DAYS)):
            yield day + timedelta(days=ahead), found


def parse_cron(text: str) -> Cron:
    """Checks and parses a five-field expression.

    Allowed: names of months and days (`jan`, `mon`), lists, ranges (also ones that wrap, `fri-mon`), steps,
    `L` (last day of the month), `15W` (the weekday nearest to the 15th), `mon#1` (first Monday), `L5` (last
    Friday) and `?` for `*`. Day of month and day of week together mean either, as in cron. A step that leaves only the
    first value is refused: cron starts each field anew, so `*/90` minutes would be once an hour.

    Raises:
        CronError: the expression is not valid. The error names the field and the reason, and if known what to write.
    """
    words = _five_fields(text)
    for number in range(len(words)):
        _check_field(words, number)
    _check_days(words)
    try:
        minutes, hours, *_ = croniter.expand(" ".join(words))[0]
        days = croniter(" ".join(["0", "0", *words[_DAY:]]), datetime(2000, 1, 1))  # noqa: DTZ001 - nominal times
    except CroniterError as error:
        raise CronError(str(error)) from None
    cron = Cron(
        text=" ".join(words),
        warnings=tuple(_uneven_steps(words)),
        times=tuple(time(hour, minute) for hour, minute in product(_numbers(hours, 24), _numbers(minutes, 60))),
        by_instant=any(item.startswith("*") for item in words[_HOUR].split(",")),
        _every_day=all(word in {"*", "?"} for word in words[_DAY:]),
        _days=days,
    )
    if cron.day_from(date(2000, 1, 1)) is None:
        raise CronError(f"never comes: no date has day of month {words[_DAY]} in month {words[_MONTH]}")
    return cron


def nearest_weekday(text: str) -> int | None:
    """The day of the month of a `15W` in a checked expression."""
    found = _NEAREST_WEEKDAY.fullmatch(text.split()[_DAY])
    return int(found[1] or found[2]) if found else None


def _five_fields(text: str) -> list[str]:
    if len(text) > MAX_LENGTH:
        raise CronError(f"is longer than {MAX_LENGTH} characters")
    words = text.lower().split()
    if not words:
        raise CronError(f"is empty; five fields are needed: {_FIELD_NAMES}")
    if words[0].startswith("@"):
        instead = {
            "@hourly": "0 * * * *",
            "@daily": "0 0 * * *",
            "@midnight": "0 0 * * *",
            "@weekly": "0 0 * * 0",
        }
        instead |= {"@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *"}
        hint = f"; write {instead[words[0]]!r}" if words[0] in instead else ""
        raise CronError(f"{words[0]} is not supported{hint}")
    if len(words) != len(_FIELDS):
        seconds = "; there is no field for seconds or years" if len(words) in {6, 7} else ""
        raise CronError(f"has {len(words)} fields, but five are needed: {_FIELD_NAMES}{seconds}")
    return words


def _check_field(words: Sequence[str], number: int) -> None:
    word = words[number]
    if word == "?" and number in {_DAY, _WEEKDAY}:
        return
    items = word.split(",")
    for item in items:
        name = _FIELDS[number].name
        if not item:
            raise CronError(f"{name}: {word!r} has an empty item")
        if _HASHED.fullmatch(item):
            raise CronError(f"{name}: H and R (hashed and random values) are not supported; write a number")
        if item == "*" and len(items) > 1:
            raise CronError(f"{name}: '*' in a list means everything; write '*' alone")
        if not _is_special_day(number, item, len(items)):
            _check_item(_FIELDS[number], item)
            _check_step(words, number, item)


def _is_special_day(number: int, item: str, items: int) -> bool:
    if number == _DAY and item == "l":
        return True
    if number == _DAY and (nearest := _NEAREST_WEEKDAY.fullmatch(item)):
        if items > 1:
            raise CronError("day of month: W stands alone, not in a list")
        _FIELDS[_DAY].value(nearest[1] or nearest[2])
        return True
    if number == _WEEKDAY and (nth := _NTH_WEEKDAY.fullmatch(item)):
        if nth[1] and not 1 <= int(nth[2]) <= 5:
            raise CronError(f"day of week: {item!r} is out of range, '#1' to '#5'")
        if nth[1]:
            _FIELDS[_WEEKDAY].value(nth[1])
        return True
    return False


def _check_item(kind: _Field, item: str) -> None:
    span, slash, step = item.partition("/")
    if slash and not (step.isascii() and step.isdigit() and int(step) > 0):
        raise CronError(f"{kind.name}: {step!r} is not a step; write a whole number from 1 after '/'")
    if span == "*":
        return
    first, dash, last = span.partition("-")
    low = kind.value(first) if first else kind.value(span)
    if not dash:
        return
    high = kind.value(last)
    sundays = kind.high == 7 and {low, high} == {0, 7}
    if low == high or (sundays and low == 7):
        raise CronError(f"{kind.name}: {span!r} is a range of one; write {first!r}")
    if low > high and slash:
        raise CronError(f"{kind.name}: {item!r} is a step in a range that wraps around; write the values as a list")


def _check_step(words: Sequence[str], number: int, item: str) -> None:
    span, slash, written = item.partition("/")
    if not slash:
        return
    kind, step = _FIELDS[number], int(written)
    low, high = kind.span(span)
    if step > high - low:
        instead = every(number, step, words) if words[number] == f"*/{step}" else None
        nearest = f"; the nearest to every {step} {_UNITS[number]} is {instead!r}" if instead else ""
        meant = _meant(number, item)
        raise CronError(f"{kind.name}: {item!r} steps beyond {high}, so it means {meant}: write {meant!r}{nearest}")


def _meant(number: int, item: str) -> str:
    """The values that croniter takes an item for, as a list."""
    words = ["*"] * len(_FIELDS)
    words[number] = item
    try:
        return ",".join(str(value) for value in croniter.expand(" ".join(words))[0][number])
    except CroniterError as error:
        raise CronError(str(error)) from None


def _uneven_steps(words: Sequence[str]) -> Iterator[str]:
    """Of steps through a whole field that do not divide it: cron begins anew where the field does."""
    for number, word in enumerate(words):
        kind = _FIELDS[number]
        count = kind.last - kind.low + 1
        for item in word.split(","):
            span, slash, written = item.partition("/")
            if not slash or kind.span(span) != (kind.low, kind.last):
                continue
            step = int(written)
            if number == _DAY and step > 1:
                yield f"{kind.name}: {item!r} begins anew on the 1st of each month, so the step before it is shorter"
            elif count % step and number != _DAY:
                form = ":{:02}" if number == _MINUTE else "{}"
                values = ", ".join(form.format(value) for value in range(kind.low, kind.last + 1, step))
                why = f"{step} does not divide {count}"
                yield f"{kind.name}: {item!r} means {values}, and begins anew after {kind.last}: {why}"


def _check_days(words: Sequence[str]) -> None:
    nth = [item for item in words[_WEEKDAY].split(",") if _NTH_WEEKDAY.fullmatch(item)]
    free = {"*", "?"}
    if nth and len(nth) != len(words[_WEEKDAY].split(",")):
        raise CronError(f"day of week: {words[_WEEKDAY]!r} mixes '#' or 'L' with plain days; make it two schedules")
    if nth and words[_DAY] not in free:
        raise CronError("day of month must be '*' beside '#' or 'L' in day of week; make it two schedules")
    if _NEAREST_WEEKDAY.fullmatch(words[_DAY]) and words[_WEEKDAY] not in free:
        raise CronError("day of week must be '*' beside 'W' in day of month; make it two schedules")


def _numbers(expanded: Sequence[int | str], count: int) -> Sequence[int]:
    return range(count) if "*" in expanded else sorted(int(value) for value in expanded)
