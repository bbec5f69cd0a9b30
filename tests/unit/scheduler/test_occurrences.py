"""Occurrences over changes of the clock, worked out by hand from the zones' published rules."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from tests.support.cron_oracle import rules

from taskbell_scheduler.cron import parse_cron
from taskbell_scheduler.occurrences import (
    LATEST,
    Occurrence,
    count_occurrences,
    local_instant,
    newest_occurrences,
    next_occurrence,
    occurrences,
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def instants(cron: str, zone: str, after: str, until: str) -> list[str]:
    found = occurrences(parse_cron(cron), rules(zone), after=utc(after), until=utc(until))
    return [occurrence.at.strftime("%d %H:%M") for occurrence in found]


def keys(cron: str, zone: str, after: str, until: str) -> list[str]:
    found = occurrences(parse_cron(cron), rules(zone), after=utc(after), until=utc(until))
    return [occurrence.key for occurrence in found]


def test_a_fixed_hour_keeps_its_local_time_when_the_clock_changes() -> None:
    # Berlin goes from UTC+1 to UTC+2 on 29 March 2026 at 1:00 UTC.
    assert instants("0 8 * * *", "Europe/Berlin", "2026-03-28", "2026-03-31") == ["28 07:00", "29 06:00", "30 06:00"]


def test_a_skipped_local_time_fires_when_the_gap_ends() -> None:
    # 2:30 does not exist on the 29th: 2:00 is 3:00, which is 1:00 UTC.
    assert instants("30 2 * * *", "Europe/Berlin", "2026-03-28", "2026-03-31") == ["28 01:30", "29 01:00", "30 00:30"]
    assert keys("30 2 * * *", "Europe/Berlin", "2026-03-29", "2026-03-30") == ["2026-03-29T02:30"]


def test_a_repeated_local_time_fires_at_the_first() -> None:
    # 2:30 comes at 0:30 and at 1:30 UTC on 25 October 2026.
    assert instants("30 2 * * *", "Europe/Berlin", "2026-10-24", "2026-10-27") == ["24 00:30", "25 00:30", "26 01:30"]


def test_a_change_of_half_an_hour_skips_no_day() -> None:
    # Lord Howe goes from UTC+10:30 to UTC+11 on 4 October 2026 at 2:00 local, and back on 5 April at 2:00.
    assert instants("15 2 * * *", "Australia/Lord_Howe", "2026-10-02", "2026-10-05") == [
        "02 15:45",
        "03 15:30",  # 2:15 does not exist: 2:30 local, UTC+11
        "04 15:15",
    ]
    assert instants("45 1 * * *", "Australia/Lord_Howe", "2026-04-03", "2026-04-06") == [
        "03 14:45",
        "04 14:45",  # the first 1:45, still UTC+11
        "05 15:15",
    ]


def test_times_that_fall_into_one_gap_are_one_occurrence_with_what_follows_it() -> None:
    assert instants("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29", "2026-03-29T12:00") == ["29 01:00", "29 01:30"]
    assert keys("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29", "2026-03-29T12:00") == [
        "2026-03-29T02:00",
        "2026-03-29T03:30",
    ]


def test_midnight_that_does_not_exist() -> None:
    # Cuba's clock goes from 0:00 to 1:00 on 8 March 2026, at 5:00 UTC.
    assert instants("0 0 * * *", "America/Havana", "2026-03-07", "2026-03-10") == ["07 05:00", "08 05:00", "09 04:00"]


def test_a_day_that_does_not_exist_fires_when_it_would_have_ended() -> None:
    # Samoa left out 30 December 2011, crossing the date line at 10:00 UTC.
    assert instants("0 8 * * *", "Pacific/Apia", "2011-12-29", "2012-01-01") == [
        "29 18:00",  # the 29th
        "30 10:00",  # the 30th, at the first instant of the 31st
        "30 18:00",  # the 31st
        "31 18:00",  # 1 January
    ]
    assert keys("0 8 * * *", "Pacific/Apia", "2011-12-30", "2011-12-31")[0] == "2011-12-30T08:00"
    # Midnight of the 30th and of the 31st are the same instant.
    assert instants("0 0 * * *", "Pacific/Apia", "2011-12-30", "2011-12-31") == ["30 10:00"]


def test_a_day_that_comes_twice_fires_once() -> None:
    # Kwajalein went back from UTC+11 to UTC-12 at the end of 30 September 1969 (13:00 UTC), to 1:00 of the same day.
    assert keys("0 8 * * *", "Pacific/Kwajalein", "1969-09-28T12:00", "1969-10-03") == [
        "1969-09-29T08:00",
        "1969-09-30T08:00",
        "1969-10-01T08:00",
        "1969-10-02T08:00",
    ]


def test_a_change_that_only_a_zones_later_rule_has_is_none() -> None:
    # Nuuk stayed at UTC-2 in October 2023, when the European rule, which it has followed since, would have set it back.
    assert instants("30 23 * * *", "America/Nuuk", "2023-10-28", "2023-10-31") == ["28 01:30", "29 01:30", "30 01:30"]
    hours = instants("30 * * * *", "America/Nuuk", "2023-10-28T23:00", "2023-10-29T03:00")
    assert hours == ["28 23:30", "29 00:30", "29 01:30", "29 02:30"]


def test_every_hour_is_every_hour_of_the_local_clock() -> None:
    assert instants("0 * * * *", "Asia/Kolkata", "2026-05-01T00:00", "2026-05-01T03:00") == [
        "01 00:30",
        "01 01:30",
        "01 02:30",
    ]
    assert instants("0 * * * *", "Asia/Kathmandu", "2026-05-01T00:00", "2026-05-01T02:00") == ["01 00:15", "01 01:15"]


def test_every_hour_goes_on_through_changes_of_the_clock() -> None:
    gap = instants("0 * * * *", "Europe/Berlin", "2026-03-28T23:30", "2026-03-29T03:30")
    assert gap == ["29 00:00", "29 01:00", "29 02:00", "29 03:00"]
    fold = instants("0 * * * *", "Europe/Berlin", "2026-10-24T23:30", "2026-10-25T02:30")
    assert fold == ["25 00:00", "25 01:00", "25 02:00"]
    assert keys("0 * * * *", "Europe/Berlin", "2026-10-24T23:30", "2026-10-25T01:30") == [
        "2026-10-25T00:00:00Z",
        "2026-10-25T01:00:00Z",
    ]


def test_every_second_hour_fires_whenever_the_local_clock_shows_one() -> None:
    # Local 0, (2 is skipped), 4, 6 at the gap; local 0, 2, 2, 4 at the fold.
    assert instants("0 */2 * * *", "Europe/Berlin", "2026-03-28T22:30", "2026-03-29T04:30") == [
        "28 23:00",
        "29 02:00",
        "29 04:00",
    ]
    assert instants("0 */2 * * *", "Europe/Berlin", "2026-10-24T21:30", "2026-10-25T03:30") == [
        "24 22:00",
        "25 00:00",
        "25 01:00",
        "25 03:00",
    ]


def test_repeated_minutes_come_in_the_order_of_time() -> None:
    # Lord Howe repeats 1:30 to 2:00 local on 5 April 2026: 14:30 to 15:00 UTC, and 15:00 to 15:30 UTC.
    assert instants("*/10 * * * *", "Australia/Lord_Howe", "2026-04-04T14:35", "2026-04-04T15:25") == [
        "04 14:40",
        "04 14:50",
        "04 15:00",
        "04 15:10",
        "04 15:20",
    ]


@pytest.mark.parametrize("cron", ["*/10 * * * *", "*/10 0-23 * * *"])
@pytest.mark.parametrize("minutes", range(0, 180, 7))
def test_going_on_from_any_position_in_a_fold_gives_the_rest(cron: str, minutes: int) -> None:
    expression, zone = parse_cron(cron), rules("Europe/Berlin")
    start, end = utc("2026-10-24T23:30"), utc("2026-10-25T03:30")
    whole = list(occurrences(expression, zone, after=start, until=end))
    position = start + timedelta(minutes=minutes)
    assert list(occurrences(expression, zone, after=position, until=end)) == [o for o in whole if o.at > position]


def test_the_position_itself_is_not_to_come_again() -> None:
    at = next_occurrence(parse_cron("0 8 * * *"), rules("UTC"), after=utc("2026-01-01T07:59:59.999999"))
    assert at == Occurrence(utc("2026-01-01T08:00"), "2026-01-01T08:00")
    following = next_occurrence(parse_cron("0 8 * * *"), rules("UTC"), after=at.at)
    assert following
    assert following.at == utc("2026-01-02T08:00")


def test_until_is_included() -> None:
    assert instants("0 8 * * *", "UTC", "2026-01-01T08:00", "2026-01-02T08:00") == ["02 08:00"]
    assert instants("0 * * * *", "UTC", "2026-01-01T08:00", "2026-01-01T09:00") == ["01 09:00"]


def test_at_the_end_of_time_nothing_is_to_come() -> None:
    assert next_occurrence(parse_cron("0 8 * * *"), rules("Asia/Tokyo"), after=LATEST) is None
    ancient = islice(occurrences(parse_cron("0 8 * * *"), rules("UTC"), after=datetime.min.replace(tzinfo=UTC)), 1)
    assert next(ancient).at.year == 1


def test_the_newest_and_how_many_are_older() -> None:
    cron, zone = parse_cron("* * * * *"), rules("UTC")
    newest, older = newest_occurrences(cron, zone, after=utc("2016-01-01"), until=utc("2026-01-01"), limit=3)
    assert [occurrence.at for occurrence in newest] == [
        utc("2025-12-31T23:58"),
        utc("2025-12-31T23:59"),
        utc("2026-01-01"),
    ]
    assert older == 3653 * 1440 - 3  # ten years with three leap days


def test_newest_takes_all_where_there_are_few() -> None:
    cron, zone = parse_cron("0 10 * * mon"), rules("Europe/Berlin")
    newest, older = newest_occurrences(cron, zone, after=utc("2026-03-01"), until=utc("2026-04-01"), limit=1000)
    assert [occurrence.key for occurrence in newest] == [f"2026-03-{day:02}T10:00" for day in (2, 9, 16, 23, 30)]
    assert older == 0


def test_counting_sees_each_change_of_the_clock() -> None:
    # A whole year of minutes has one hour less in spring and one more in autumn: all 525,600 instants.
    assert (
        count_occurrences(
            parse_cron("* * * * *"), rules("Europe/Berlin"), after=utc("2026-01-01"), until=utc("2027-01-01")
        )
        == 525_600
    )
    # Nominal minutes: the 60 of the gap are one with 3:00, and the repeated 60 count once.
    assert (
        count_occurrences(
            parse_cron("* 0-23 * * *"), rules("Europe/Berlin"), after=utc("2026-01-01"), until=utc("2027-01-01")
        )
        == 525_600 - 60
    )


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("2026-03-29T01:59", "2026-03-29T00:59"),
        ("2026-03-29T02:45", "2026-03-29T01:00"),  # in the gap
        ("2026-03-29T03:00", "2026-03-29T01:00"),
        ("2026-10-25T02:45", "2026-10-25T00:45"),  # the first of two
        ("2026-10-25T03:00", "2026-10-25T02:00"),
    ],
)
def test_local_times_as_instants(local: str, expected: str) -> None:
    assert local_instant(datetime.fromisoformat(local), rules("Europe/Berlin")) == utc(expected)
