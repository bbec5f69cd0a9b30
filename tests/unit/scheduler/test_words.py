"""Expressions in English: the words are read back, and mean exactly the times and days of the expression."""

import re
from calendar import monthrange
from collections.abc import Callable, Sequence
from datetime import date, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbell_scheduler.cron import CronError, parse_cron
from taskbell_scheduler.words import MONTHS, ORDINALS, WEEKDAYS, in_words

SPOKEN = re.compile(
    r"(?P<times>(?:At|Every) .+?)(?: on (?P<days>.+?))?(?: in (?P<months>(?:January|February|March|April|May|June|July|"
    r"August|September|October|November|December).*))?"
)
BEGINNING, DAYS = date(2026, 1, 1), 3 * 366


def listed(words: str, names: Sequence[str]) -> list[int]:
    """The places in `names` of what a list names, such as `Monday to Friday and Sunday`."""
    found = []
    for item in re.split(r", | and ", words):
        first, _, last = item.partition(" to ")
        found += list(range(names.index(first), names.index(last or first) + 1))
    return found


def times_of(words: str) -> set[time]:
    """The times of a day that the words name."""
    spoken, _, of_hours = words.partition(" of the hours ")
    hours = listed(of_hours, [f"{hour:02}" for hour in range(24)]) if of_hours else list(range(24))
    spoken = spoken.removeprefix("Every hour ").removeprefix("At ").removeprefix("at ")
    if every := re.fullmatch(r"Every (?:(\d+) )?minutes?", spoken):
        minutes = range(0, 60, int(every[1] or 1))
    elif spoken.startswith(":"):
        minutes = [int(item[1:]) for item in re.split(r", | and ", spoken)]
    else:
        return {time.fromisoformat(item) for item in re.split(r", | and ", spoken)}
    return {time(hour, minute) for hour in hours for minute in minutes}


def nearest_weekday(day: date, wanted: int) -> bool:
    last = monthrange(day.year, day.month)[1]
    meant = day.replace(day=min(wanted, last))
    if meant.weekday() == 5:
        meant += timedelta(days=-1 if meant.day > 1 else 2)
    elif meant.weekday() == 6:
        meant += timedelta(days=1 if meant.day < last else -2)
    return day == meant


def is_meant(words: str, day: date) -> bool:
    """Whether one alternative of the days means this one."""
    last = monthrange(day.year, day.month)[1]
    if found := re.fullmatch(r"the weekday nearest to day (\d+) of the month", words):
        return nearest_weekday(day, int(found[1]))
    weekday = day.isoweekday() % 7
    if not words.endswith(" of the month"):
        return weekday in listed(words, WEEKDAYS)
    words = words.removesuffix(" of the month")
    if nth := re.findall(rf"the ({'|'.join(ORDINALS.values())}) ({'|'.join(WEEKDAYS)})", words):
        place = ORDINALS[(day.day + 6) // 7]
        return any(
            WEEKDAYS[weekday] == name and (place == which or (which == "last" and day.day + 7 > last))
            for which, name in nth
        )
    if day.day == last and words.endswith("the last day"):
        return True
    numbers = words.removesuffix("the last day").removesuffix(" and ").removeprefix("day ")
    return bool(numbers) and day.day - 1 in listed(numbers, [str(number) for number in range(1, 32)])


def days_of(days: str | None, months: str | None) -> Callable[[date], bool]:
    in_months = listed(months, MONTHS) if months else range(12)
    return lambda day: (
        day.month - 1 in in_months and (days is None or any(is_meant(it, day) for it in days.split(" or on ")))
    )


def field(low: int, high: int, *more: str) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).filter(lambda it: it[0] < it[1])
    item = st.one_of(
        number.map(str),
        span.map(lambda it: f"{it[0]}-{it[1]}"),
        st.tuples(span, st.integers(1, 30)).map(lambda it: f"{it[0][0]}-{it[0][1]}/{it[1]}"),
        st.integers(1, high).map(lambda it: f"*/{it}"),
    )
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join), *map(st.just, more))


EXPRESSIONS = st.tuples(
    field(0, 59),
    field(0, 23),
    field(1, 31, "l", "1,l", "15w", "w31", "?"),
    field(1, 12),
    field(0, 6, "l5", "mon#1,l3", "7"),
).map(" ".join)


@given(EXPRESSIONS)
def test_words_mean_what_fires(text: str) -> None:
    try:
        cron = parse_cron(text)
    except CronError:
        return
    spoken = SPOKEN.fullmatch(in_words(cron))
    assert spoken is not None, in_words(cron)
    assert times_of(spoken["times"]) == set(cron.times), in_words(cron)
    means = days_of(spoken["days"], spoken["months"])
    for day in (BEGINNING + timedelta(days=ahead) for ahead in range(DAYS)):
        assert means(day) == (cron.day_from(day) == day), (in_words(cron), day)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 8 * * *", "At 08:00"),
        ("0 10 * * mon", "At 10:00 on Monday"),
        ("*/45 * * * *", "Every hour at :00 and :45"),
        ("*/15 8-18 * * 1-5", "Every 15 minutes of the hours 08 to 18 on Monday to Friday"),
        ("* * * * *", "Every minute"),
        ("0 */6 * * *", "At 00:00, 06:00, 12:00 and 18:00"),
        ("0 8 1,15,l jan,jul *", "At 08:00 on day 1 and 15 and the last day of the month in January and July"),
        ("0 9 1 * mon", "At 09:00 on day 1 of the month or on Monday"),
        ("0 9 * * mon#1,l5", "At 09:00 on the first Monday and the last Friday of the month"),
        ("0 9 15w * *", "At 09:00 on the weekday nearest to day 15 of the month"),
    ],
)
def test_words(cron: str, words: str) -> None:
    assert in_words(parse_cron(cron)) == words
