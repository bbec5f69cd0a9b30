"""What becomes of what falls due: published, missed or paused, and where the position goes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.cron_oracle import rules

from taskbell_scheduler.cron import parse_cron
from taskbell_scheduler.domain import (
    EVERY_ZONE,
    LISTED,
    Decision,
    Entry,
    PairState,
    decide,
    next_due,
    pause_of,
)
from taskbell_scheduler.occurrences import count_occurrences
from taskbell_scheduler.schedules import Schedule


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def entry(cron: str = "0 * * * *", zone: str = "UTC", catch_up: timedelta = timedelta(hours=1)) -> Entry:
    schedule = Schedule("digest", parse_cron(cron), rules(zone), "reminder.due", {}, catch_up)
    return Entry(schedule, rules(zone))


def state(position: str, **given: object) -> PairState:
    return PairState("digest", "UTC", "0 * * * *", utc(position), **given)  # type: ignore[arg-type] - as a row has it


def whole(**given: object) -> PairState:
    return PairState("digest", EVERY_ZONE, "*", utc("2026-01-01"), **given)  # type: ignore[arg-type] - as a row has it


def told(decision: Decision) -> list[tuple[str, str]]:
    return [(record.key[11:16], record.status) for record in decision.records]


NOON = utc("2026-05-04T12:00:00.250")


def test_nothing_is_due_yet() -> None:
    decision = decide(entry(), state("2026-05-04T12:00"), None, NOON)
    assert (decision.records, decision.published, decision.position) == ([], None, utc("2026-05-04T12:00"))


def test_what_is_due_is_published_and_the_position_moves_to_it() -> None:
    decision = decide(entry(), state("2026-05-04T11:00"), None, NOON)
    assert told(decision) == [("12:00", "published")]
    assert decision.published
    assert decision.position == decision.published.at == utc("2026-05-04T12:00")


def test_of_several_the_newest_runs_and_the_others_were_missed() -> None:
    decision = decide(entry(), state("2026-05-04T08:30"), None, NOON)
    assert told(decision) == [("09:00", "missed"), ("10:00", "missed"), ("11:00", "missed"), ("12:00", "published")]
    assert {record.reason for record in decision.records[:-1]} == {"replaced by 2026-05-04T12:00:00Z"}


@pytest.mark.parametrize(("late", "status"), [("12:59:59", "published"), ("13:00:00", "published")])
def test_the_newest_runs_until_its_catch_up_window_ends(late: str, status: str) -> None:
    daily = entry("0 12 * * *")
    decision = decide(daily, state("2026-05-04T00:00"), None, utc(f"2026-05-04T{late}"))
    assert told(decision) == [("12:00", status)]


def test_outside_its_window_the_newest_was_missed_too() -> None:
    daily = entry("0 12 * * *")
    decision = decide(daily, state("2026-05-02T00:00"), None, utc("2026-05-04T15:00:01"))
    assert [(record.key, record.status, record.reason) for record in decision.records] == [
        ("2026-05-02T12:00", "missed", "no scheduler ran"),
        ("2026-05-03T12:00", "missed", "no scheduler ran"),
        ("2026-05-04T12:00", "missed", "noticed 3 h late, outside its catch-up window"),
    ]
    assert decision.published is None
    assert decision.position == utc("2026-05-04T12:00")


def test_without_catch_up_a_few_seconds_late_is_still_on_time() -> None:
    strict = entry(catch_up=timedelta(0))
    assert told(decide(strict, state("2026-05-04T11:00"), None, utc("2026-05-04T12:00:05"))) == [("12:00", "published")]
    assert told(decide(strict, state("2026-05-04T11:00"), None, utc("2026-05-04T12:00:06"))) == [("12:00", "missed")]


def test_a_thousand_missed_get_a_row_each_and_one_row_counts_the_rest() -> None:
    minutely = entry("* * * * *")
    decision = decide(minutely, state("2026-05-02T12:00"), None, utc("2026-05-04T12:00"))  # 2,880 minutes
    missed = decision.records[:-1]
    assert len(missed) == LISTED + 1
    assert [record.count for record in missed[:2]] == [2880 - 1 - LISTED, 1]
    assert missed[1].at == utc("2026-05-04T12:00") - timedelta(minutes=LISTED)
    assert missed[0].at == missed[1].at - timedelta(minutes=1)


def test_a_position_of_long_ago_costs_no_more_than_ten_years() -> None:
    now = utc("2026-05-04T12:00")
    decision = decide(entry("* * * * *"), state("0002-01-01"), None, now)
    assert len(decision.records) == LISTED + 2
    assert sum(record.count for record in decision.records) == 3660 * 1440


def test_a_position_ahead_of_the_clock_waits_for_it() -> None:
    ahead = state("2026-05-04T13:00")
    assert decide(entry(), ahead, None, NOON).records == []
    assert next_due(entry(), ahead, None) == utc("2026-05-04T14:00")


def test_in_a_pause_everything_due_is_recorded_as_paused() -> None:
    paused = state("2026-05-04T10:00", paused=True, paused_at=utc("2026-05-04T10:30"), note="mail server moves")
    decision = decide(entry(), paused, None, NOON)
    assert told(decision) == [("11:00", "paused"), ("12:00", "paused")]
    assert decision.records[0].reason == "paused: mail server moves"
    assert decision.position == utc("2026-05-04T12:00")
    assert not decision.pause_ends


def test_what_was_due_before_the_pause_was_missed() -> None:
    paused = state("2026-05-04T09:30", paused=True, paused_at=utc("2026-05-04T10:30"))
    assert told(decide(entry(), paused, None, NOON)) == [("10:00", "missed"), ("11:00", "paused"), ("12:00", "paused")]


def test_a_pause_set_by_hand_counts_from_the_position() -> None:
    paused = state("2026-05-04T10:00", paused=True)
    assert told(decide(entry(), paused, None, NOON)) == [("11:00", "paused"), ("12:00", "paused")]


def test_resumed_it_starts_at_that_moment_and_runs_again() -> None:
    resumed = state("2026-05-04T09:00", paused_at=utc("2026-05-04T09:30"), resumed_at=utc("2026-05-04T11:30"))
    decision = decide(entry(), resumed, None, NOON)
    assert told(decision) == [("10:00", "paused"), ("11:00", "paused"), ("12:00", "published")]
    assert decision.pause_ends


def test_resumed_with_nothing_due_since_moves_the_position_to_that_moment() -> None:
    resumed = state("2026-05-04T11:00", paused_at=utc("2026-05-04T11:10"), resumed_at=utc("2026-05-04T11:40"))
    decision = decide(entry(), resumed, None, utc("2026-05-04T11:45"))
    assert (decision.records, decision.position, decision.pause_ends) == ([], utc("2026-05-04T11:40"), True)


def test_a_resume_that_nobody_has_stamped_yet_is_still_a_pause() -> None:
    resumed = state("2026-05-04T11:00", paused_at=utc("2026-05-04T11:10"))
    assert told(decide(entry(), resumed, None, NOON)) == [("12:00", "paused")]


def test_a_pause_of_the_whole_schedule_holds_in_each_zone() -> None:
    everywhere = whole(paused=True, paused_at=utc("2026-05-04T11:30"), note="holidays")
    decision = decide(entry(), state("2026-05-04T11:00"), everywhere, NOON)
    assert told(decision) == [("12:00", "paused")]
    assert decision.records[0].reason == "paused: holidays"


def test_after_a_pause_of_the_whole_schedule_each_zone_records_it_once() -> None:
    everywhere = whole(paused_at=utc("2026-05-04T09:30"), resumed_at=utc("2026-05-04T11:30"))
    before = state("2026-05-04T09:00")
    decision = decide(entry(), before, everywhere, utc("2026-05-04T11:45"))
    assert told(decision) == [("10:00", "paused"), ("11:00", "paused")]
    after = state("2026-05-04T11:30")
    assert decision.position == after.position
    assert pause_of(after, everywhere) is None
    assert next_due(entry(), after, everywhere) == utc("2026-05-04T12:00")


def test_a_zone_paused_by_itself_stays_paused_when_the_whole_schedule_is_resumed() -> None:
    everywhere = whole(paused_at=utc("2026-05-04T09:30"), resumed_at=utc("2026-05-04T11:30"))
    paused = state("2026-05-04T11:00", paused=True, paused_at=utc("2026-05-04T10:30"))
    assert told(decide(entry(), paused, everywhere, NOON)) == [("12:00", "paused")]


def test_a_long_pause_shares_the_thousand_rows_with_what_was_missed() -> None:
    minutely, now = entry("* * * * *"), utc("2026-05-04T12:00")
    resumed = state("2026-05-01T12:00", paused_at=utc("2026-05-03T12:00"), resumed_at=utc("2026-05-04T02:00"))
    decision = decide(minutely, resumed, None, now)
    by_status = {
        status: [record.count for record in decision.records if record.status == status]
        for status in ("missed", "paused", "published")
    }
    # 600 minutes since the resume: 599 missed and 1 published. 840 minutes of pause: 400 rows and one for 440; then
    # 2,880 minutes without a scheduler before it: one row.
    assert by_status["published"] == [1]
    assert by_status["missed"] == [2880, *[1] * 599]
    assert by_status["paused"] == [440, *[1] * 400]


def test_an_unsettled_pause_is_due_at_once() -> None:
    resumed = state("2026-05-04T11:00", paused_at=utc("2026-05-04T11:10"), resumed_at=utc("2026-05-04T11:40"))
    due = next_due(entry(), resumed, None)
    assert due
    assert due < utc("2026-05-04T11:40")


moments = st.datetimes(datetime(2026, 3, 20), datetime(2026, 4, 10), timezones=st.just(UTC))  # noqa: DTZ001 - zone given
crons = st.sampled_from(["0 * * * *", "*/15 2 * * *", "30 1-3 * * *", "0 8 * * mon", "* * * * *"])
spans = st.sampled_from([timedelta(0), timedelta(hours=1), timedelta(days=3)])


@given(moments, moments, moments, moments, crons, spans, st.booleans())
@settings(deadline=None, max_examples=150)
def test_every_occurrence_is_accounted_for_once(
    position: datetime,
    paused_at: datetime,
    resumed_at: datetime,
    now: datetime,
    cron: str,
    catch_up: timedelta,
    paused: bool,
) -> None:
    subject = entry(cron, "Europe/Berlin", catch_up)
    row = PairState(
        "digest", "Europe/Berlin", cron, position, paused=paused, paused_at=paused_at, resumed_at=resumed_at
    )
    decision = decide(subject, row, None, now)

    due = count_occurrences(subject.schedule.cron, subject.zone, after=position, until=now)
    assert sum(record.count for record in decision.records) == due
    ats = [record.at for record in decision.records]
    assert ats == sorted(set(ats))
    assert all(position < at <= now for at in ats)
    assert decision.position >= position
    assert all(record.status != "published" for record in decision.records[:-1])
    if decision.published:
        assert not paused
        assert now - decision.published.at <= max(catch_up, timedelta(seconds=5))

    settled = PairState("digest", "Europe/Berlin", cron, decision.position, paused=paused, paused_at=paused_at)
    if decision.pause_ends:
        settled = PairState("digest", "Europe/Berlin", cron, decision.position)
    assert decide(subject, settled, None, now).records == []
