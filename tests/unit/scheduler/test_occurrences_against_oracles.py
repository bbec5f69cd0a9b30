"""Occurrences compared with other ways to find them: cronsim, and looking at every minute.

The whole sweep over every zone and year is in tests/chaos; here is a sample of it.
"""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.cron_oracle import Matcher, by_cronsim, by_minutes, clock_changes, iana_zones, rules

from taskbell_scheduler.cron import parse_cron
from taskbell_scheduler.occurrences import count_occurrences, newest_occurrences, next_occurrence, occurrences

ODD_ZONES = [
    "Africa/Casablanca",  # away from its standard time for a month each year
    "Africa/Cairo",
    "America/Havana",  # changes at midnight
    "America/St_Johns",  # half-hour offset
    "Antarctica/Troll",  # changes by two hours
    "Asia/Gaza",
    "Asia/Kathmandu",  # UTC+5:45
    "Asia/Tehran",
    "Australia/Lord_Howe",  # changes by half an hour
    "Europe/Berlin",
    "Europe/Dublin",  # its summer time is the standard
    "Pacific/Chatham",  # UTC+12:45, changes at 2:45
]
START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("zone", ODD_ZONES)
@pytest.mark.parametrize("cron", ["0 8 * * *", "30 2 * * *", "15 0 * * *", "0,30 1-3 * * sun", "45 2 1,15 * mon"])
def test_fixed_hours_are_as_cronsim_has_them_from_2020_to_2037(cron: str, zone: str) -> None:
    found = [o.at for o in occurrences(parse_cron(cron), rules(zone), after=START, until=END)]
    assert found == by_cronsim(cron, rules(zone), START, END)


@pytest.mark.parametrize("zone", iana_zones()[::12])
def test_a_daily_schedule_fires_once_a_local_date(zone: str) -> None:
    start, end = datetime(2024, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    for cron in ("30 2 * * *", "0 0 * * *"):
        found = list(occurrences(parse_cron(cron), rules(zone), after=start, until=end))
        dates = [occurrence.at.astimezone(rules(zone)).date() for occurrence in found]
        assert dates == [dates[0] + timedelta(days=ahead) for ahead in range(len(dates))]
        assert [occurrence.key[:10] for occurrence in found] == [date.isoformat() for date in dates]


zones = st.sampled_from(ODD_ZONES)
minutes = st.sampled_from([(0,), (30,), (15, 45), (0, 20, 40), tuple(range(0, 60, 5)), tuple(range(60))])
weekdays = st.sampled_from([tuple(range(1, 8)), (1,), (6, 7)])


@st.composite
def days_around_changes(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone, and a moment within three days before one of its changes of the clock, or anywhere where it has none."""
    zone = draw(zones)
    changes = clock_changes(rules(zone), 2026, 2027) or [datetime(2026, 6, 1, tzinfo=UTC)]
    start = draw(st.sampled_from(changes)) - timedelta(days=3)
    return zone, start + draw(st.timedeltas(timedelta(0), timedelta(days=3)))


@given(where=days_around_changes(), minutes=minutes, step=st.sampled_from([1, 2, 3, 5, 6]), weekdays=weekdays)
@settings(deadline=None, max_examples=60)
def test_starred_hours_are_what_the_local_clock_shows(
    where: tuple[str, datetime], minutes: tuple[int, ...], step: int, weekdays: tuple[int, ...]
) -> None:
    zone, start = where
    end = start + timedelta(days=4)
    hours = f"*/{step}" if step > 1 else "*"
    cron = f"{','.join(map(str, minutes))} {hours} * * {','.join(map(str, weekdays))}"
    found = [o.at for o in occurrences(parse_cron(cron), rules(zone), after=start, until=end)]
    matcher = Matcher(minutes, hours=range(0, 24, step), weekdays=weekdays)
    assert found == by_minutes(matcher, rules(zone), start, end)


crons = st.one_of(
    st.tuples(
        st.sampled_from(["0", "30", "*/20", "*"]), st.sampled_from(["*", "*/2", "0-4", "2", "0,1,2,3", "23"])
    ).map(lambda parts: f"{parts[0]} {parts[1]} * * *"),
    st.sampled_from(["15 2 * * sun", "0 0 1 * *", "30 */3 15 * mon"]),
)


@given(
    where=days_around_changes(), cron=crons, cuts=st.lists(st.timedeltas(timedelta(0), timedelta(days=4)), max_size=5)
)
@example(("Pacific/Apia", datetime(2011, 12, 29, 12, tzinfo=UTC)), "0 8 * * *", [timedelta(hours=23)])
@example(("Pacific/Kwajalein", datetime(1969, 9, 29, 12, tzinfo=UTC)), "0 * * * *", [timedelta(hours=30)])
@settings(deadline=None, max_examples=60)
def test_pieces_give_what_one_pass_gives(where: tuple[str, datetime], cron: str, cuts: list[timedelta]) -> None:
    zone, start = where
    expression, end = parse_cron(cron), start + timedelta(days=4)
    whole = list(occurrences(expression, rules(zone), after=start, until=end))

    assert [o.at for o in whole] == sorted({o.at for o in whole}), "strictly ascending"
    assert len({o.key for o in whole}) == len(whole), "no key twice"

    edges = [start, *sorted(start + cut for cut in cuts), end]
    pieces = [
        occurrence
        for after, until in pairwise(edges)
        for occurrence in occurrences(expression, rules(zone), after=after, until=until)
    ]
    assert pieces == whole

    stepped, position = [], start
    while (occurrence := next_occurrence(expression, rules(zone), after=position)) and occurrence.at <= end:
        stepped.append(occurrence)
        position = occurrence.at
    assert stepped == whole


@given(where=days_around_changes(), cron=crons, limit=st.integers(1, 200), days=st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_newest_and_count_agree_with_the_list(where: tuple[str, datetime], cron: str, limit: int, days: int) -> None:
    zone, start = where
    expression, end = parse_cron(cron), start + timedelta(days=days)
    whole = list(occurrences(expression, rules(zone), after=start, until=end))
    assert count_occurrences(expression, rules(zone), after=start, until=end) == len(whole)
    newest, older = newest_occurrences(expression, rules(zone), after=start, until=end, limit=limit)
    assert newest == whole[-limit:]
    assert older == max(0, len(whole) - limit)
