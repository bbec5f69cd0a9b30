"""Cron expressions: what is taken, what is refused, and with which words."""

from datetime import date, datetime, time, timedelta

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from taskbell_scheduler.cron import CronError, parse_cron


def test_times_of_a_day_are_listed_in_order() -> None:
    assert parse_cron("45,15 20,8 * * *").times == (time(8, 15), time(8, 45), time(20, 15), time(20, 45))


def test_ranges_wrap_over_midnight() -> None:
    assert [moment.hour for moment in parse_cron("0 22-1 * * *").times] == [0, 1, 22, 23]


@pytest.mark.parametrize("hours", ["*", "*/2", "8,*/6"])
def test_starred_hours_count_by_instant(hours: str) -> None:
    assert parse_cron(f"0 {hours} * * *").by_instant


@pytest.mark.parametrize("hours", ["8", "8,20", "1-5", "0-23", "8/4", "0-23/2"])
def test_other_hours_count_by_local_time(hours: str) -> None:
    assert not parse_cron(f"*/5 {hours} * * *").by_instant


def test_spelling_does_not_matter() -> None:
    assert parse_cron(" 0  8 * JAN\tMon ").text == "0 8 * jan mon"
    assert parse_cron("0 8 * JAN Mon") == parse_cron("0 8 * jan mon")


@pytest.mark.parametrize(
    ("cron", "start", "first"),
    [
        ("0 8 * * *", "2026-11-18", "2026-11-18"),
        ("0 8 * * mon", "2026-11-18", "2026-11-23"),  # a Wednesday
        ("0 8 * * 7", "2026-11-18", "2026-11-22"),
        ("0 8 29 2 *", "2026-01-01", "2028-02-29"),
        ("0 8 l * *", "2026-02-10", "2026-02-28"),
        ("0 8 * * mon#1", "2026-11-03", "2026-12-07"),  # the first Monday of November was the 2nd
        ("0 8 * * l5", "2026-11-18", "2026-11-27"),
        ("0 8 15w * *", "2026-11-01", "2026-11-16"),  # the 15th is a Sunday
        ("0 8 1 * mon", "2026-11-24", "2026-11-30"),  # either: the Monday comes before the 1st
        ("0 8 1 * mon", "2026-12-01", "2026-12-01"),  # either: the 1st, a Tuesday
        ("0 8 ? * fri-mon", "2026-11-18", "2026-11-20"),
        ("0 8 31 2 mon", "2026-11-18", "2027-02-01"),  # no 31st in February, but Mondays
    ],
)
def test_days(cron: str, start: str, first: str) -> None:
    assert parse_cron(cron).day_from(date.fromisoformat(start)) == date.fromisoformat(first)


@pytest.mark.parametrize(
    "days", ["* * *", "* * mon,thu", "1,15 * *", "31 * *", "29 2 *", "1 * mon", "l */3 *", "* * fri#2"]
)
def test_every_day_is_as_croniter_has_it(days: str) -> None:
    cron = parse_cron(f"0 0 {days}")
    expected = croniter(f"0 0 {days}", datetime.fromisoformat("2023-12-31"), ret_type=datetime)
    upcoming = expected.get_next().date()
    for ahead in range(3 * 366):
        day = date(2024, 1, 1) + timedelta(days=ahead)
        assert cron.day_from(day) == upcoming
        if day == upcoming:
            upcoming = expected.get_next().date()


@pytest.mark.parametrize(
    ("cron", "reason"),
    [
        ("", "is empty"),
        ("0 8 * *", "has 4 fields"),
        ("0 0 8 * * *", "no field for seconds"),
        ("@daily", "write '0 0 * * *'"),
        ("@reboot", "@reboot is not supported"),
        ("H 8 * * *", "H and R"),
        ("0 R(1-5) * * *", "H and R"),
        ("H/15 * * * *", "H and R"),
        ("60 8 * * *", "minute: 60 is out of range, 0 to 59"),
        ("0 24 * * *", "hour: 24 is out of range"),
        ("0 8 0 * *", "day of month: 0 is out of range"),
        ("0 8 * 13 *", "month: 13 is out of range"),
        ("0 8 * * 8", "day of week: 8 is out of range"),
        ("0 -1 * * *", "negative"),
        ("0 8,,9 * * *", "empty item"),
        ("0 8 * * monday", "did you mean 'mon'?"),
        ("0 8 * sept *", "did you mean 'sep'?"),
        ("0 eight * * *", "'eight' is not a number from 0 to 23"),
        ("0 8-8 * * *", "range of one; write '8'"),
        ("0 8 * * 7-0", "range of one"),
        ("0 */0 * * *", "is not a step"),
        ("0 */x * * *", "is not a step"),
        ("0 22-4/2 * * *", "wraps around"),
        ("0 *,5 * * *", "write '*' alone"),
        ("0 ? * * *", "'?' is not a number from 0 to 23"),
        ("0 8 15w,3 * *", "W stands alone"),
        ("0 8 * * mon#6", "'#1' to '#5'"),
        ("0 8 1 * mon#1", "make it two schedules"),
        ("0 8 * * mon#1,tue", "make it two schedules"),
        ("0 8 15w * mon", "make it two schedules"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6 *", "never comes"),
        ("0 8 * * " + ",".join(["1"] * 200), "longer than 200"),
        ("٣ 8 * * *", "is not a number from 0 to 59"),
        (
            "*/90 * * * *",
            "'*/90' steps beyond 59, so it means 0: write '0'; the nearest to every 90 minutes is '0 */2 * *",
        ),
        ("*/60 * * * *", "the nearest to every 60 minutes is '0 * * * *'"),
        ("*/1500 * * * *", "write '0'; the nearest to every 1500 minutes is '0 0 * * *'"),
        ("*/90 8-18 * * *", "write '0'"),
        ("5,*/90 * * * *", "minute: '*/90' steps beyond 59, so it means 0: write '0'"),
        ("5/90 * * * *", "so it means 5: write '5'"),
        ("10-20/15 * * * *", "'10-20/15' steps beyond 20, so it means 10: write '10'"),
        (
            "0 */36 * * *",
            "hour: '*/36' steps beyond 23, so it means 0: write '0'; the nearest to every 36 hours is '0 0 */2",
        ),
        ("0 9 */40 * *", "so it means 1: write '1'; the nearest to every 40 days is '0 9 1 * *'"),
        ("0 9 */90 * *", "the nearest to every 90 days is '0 9 1 */3 *'"),
        ("0 0 1 */13 *", "so it means 1: write '1'"),
        ("0 0 * * */8", "so it means 0: write '0'"),
        ("0 0 * * fri/2", "so it means 5: write '5'"),
    ],
)
def test_refused_with_a_reason(cron: str, reason: str) -> None:
    with pytest.raises(CronError) as refusal:
        parse_cron(cron)
    assert reason in str(refusal.value)


@pytest.mark.parametrize(
    ("cron", "warnings"),
    [
        ("*/15 */6 */1 */3 */1", []),
        ("8-20/5 9-17/3 1-20/6 * mon-fri/3", []),  # their writer said where they end
        ("*/45 8 * * *", ["minute: '*/45' means :00, :45, and begins anew after 59: 45 does not divide 60"]),
        ("0-59/45 8 * * *", ["minute: '0-59/45' means :00, :45, and begins anew after 59: 45 does not divide 60"]),
        ("0 3,*/9 * * *", ["hour: '*/9' means 0, 9, 18, and begins anew after 23: 9 does not divide 24"]),
        (
            "0 8 */2 * *",
            ["day of month: '*/2' begins anew on the 1st of each month, so the step before it is shorter"],
        ),
        ("0 8 1 */5 *", ["month: '*/5' means 1, 6, 11, and begins anew after 12: 5 does not divide 12"]),
        ("0 8 * * sun/2", ["day of week: 'sun/2' means 0, 2, 4, 6, and begins anew after 6: 2 does not divide 7"]),
        ("0 8 * * 7/2", ["day of week: '7/2' means 0, 2, 4, 6, and begins anew after 6: 2 does not divide 7"]),
    ],
)
def test_steps_that_do_not_divide_their_field_are_warned_of(cron: str, warnings: list[str]) -> None:
    assert list(parse_cron(cron).warnings) == warnings


@given(st.sampled_from([(0, 59), (1, 23), (2, 31), (3, 12), (4, 7)]), st.integers(0, 59), st.integers(1, 120))
def test_what_is_written_instead_of_a_step_fires_as_the_step_did(field: tuple[int, int], first: int, step: int) -> None:
    place, high = field
    words = ["0", "0", "*", "*", "*"]
    words[place] = f"{min(first, high) or '*'}/{step}"
    try:
        parse_cron(" ".join(words))
    except CronError as error:
        instead = str(error).split("write ")[-1].split(";")[0].strip("'")
        as_step, words[place] = croniter.expand(" ".join(words))[0], instead
        assert parse_cron(" ".join(words)).text == " ".join(words)
        assert croniter.expand(" ".join(words))[0] == as_step


FIELD = st.text(alphabet="0123456789*/-,?lw#hr()monjat@ ", min_size=1, max_size=8)


@given(st.one_of(st.lists(FIELD, min_size=5, max_size=5).map(" ".join), st.text(max_size=30)))
def test_any_text_is_either_a_schedule_with_dates_or_refused(text: str) -> None:
    try:
        cron = parse_cron(text)
    except CronError:
        return
    assert cron.times
    assert cron.day_from(date(2026, 1, 1))
