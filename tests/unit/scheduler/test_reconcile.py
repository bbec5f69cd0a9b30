"""Which schedule runs in which zone, and what must be written for that."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.support.cron_oracle import rules

from taskbell_scheduler.cron import parse_cron
from taskbell_scheduler.domain import EVERY_ZONE, Pair, PairState
from taskbell_scheduler.reconcile import ANY, GONE, Changes, Reconciliation, reconcile
from taskbell_scheduler.schedules import Schedule

EIGHT, NINE = "0 8 * * *", "0 9 * * *"
NOW = datetime(2026, 5, 4, tzinfo=UTC)


def schedule(name: str = "digest", zone: str | None = "UTC", cron: str = EIGHT) -> Schedule:
    return Schedule(name, parse_cron(cron), rules(zone) if zone else None, "reminder.due", {})


def row(name: str = "digest", zone: str = "UTC", cron: str = EIGHT, generation: int = 1, **given: object) -> PairState:
    return PairState(name, zone, cron, NOW, generation=generation, **given)  # type: ignore[arg-type] - as a row has it


def reconciled(
    *schedules: Schedule,
    rows: tuple[PairState, ...] = (),
    zones: set[str] | None = frozenset(),
    generation: int = 1,  # type: ignore[assignment]
) -> Reconciliation:
    states: dict[Pair, PairState] = {state.pair: state for state in rows}
    return reconcile(schedules, zones, states, generation)


def test_what_is_seen_for_the_first_time_starts() -> None:
    called = reconciled(schedule())
    assert called.changes == Changes(start=[(("digest", "UTC"), EIGHT)])
    assert not called.entries


def test_what_runs_goes_on() -> None:
    called = reconciled(schedule(), rows=(row(),))
    assert list(called.entries) == [("digest", "UTC")]
    assert not called.changes


def test_recipients_have_an_entry_for_each_of_their_zones() -> None:
    rows = (row(zone="Europe/Berlin"), row(zone="Asia/Tokyo"))
    called = reconciled(schedule(zone=None), rows=rows, zones={"Europe/Berlin", "Asia/Tokyo", "America/Lima"})
    assert set(called.entries) == {("digest", "Europe/Berlin"), ("digest", "Asia/Tokyo")}
    assert called.changes.start == [(("digest", "America/Lima"), EIGHT)]


def test_a_zone_that_nobody_has_any_more_retires_and_starts_again_with_its_next_user() -> None:
    active = row(zone="Europe/Berlin")
    assert reconciled(schedule(zone=None), rows=(active,), zones=set()).changes == Changes(retire=[active.pair])
    retired = replace(active, active=False)
    assert not reconciled(schedule(zone=None), rows=(retired,), zones=set()).changes
    again = reconciled(schedule(zone=None), rows=(retired,), zones={"Europe/Berlin"})
    assert again.changes == Changes(start=[(active.pair, EIGHT)])
    assert not again.entries


def test_while_the_zones_are_unknown_those_that_run_go_on() -> None:
    rows = (row(zone="Europe/Berlin"), row(zone="Asia/Tokyo", active=False))
    called = reconciled(schedule(zone=None), rows=rows, zones=None)
    assert list(called.entries) == [("digest", "Europe/Berlin")]
    assert not called.changes


def test_a_changed_expression_starts_anew() -> None:
    called = reconciled(schedule(cron=NINE), rows=(row(cron=EIGHT, generation=1),), generation=2)
    assert called.changes == Changes(start=[(("digest", "UTC"), NINE)])
    assert not called.entries


def test_a_scheduler_that_started_earlier_leaves_changed_schedules_to_the_later_one() -> None:
    called = reconciled(schedule(cron=EIGHT), rows=(row(cron=NINE, generation=2),), generation=1)
    assert called.outdated == ["digest"]
    assert not called.entries
    assert not called.changes


def test_two_that_started_together_do_not_take_it_from_each_other() -> None:
    assert not reconciled(schedule(cron=EIGHT), rows=(row(cron=NINE, generation=2),), generation=2).changes


def test_a_changed_zone_ends_the_old_and_starts_the_new() -> None:
    called = reconciled(schedule(zone="Asia/Tokyo"), rows=(row(zone="UTC"),), generation=2)
    assert called.changes == Changes(start=[(("digest", "Asia/Tokyo"), EIGHT)], remove=[("digest", "UTC")])


def test_a_schedule_that_left_the_file_is_removed_once() -> None:
    old = row(name="old")
    assert reconciled(rows=(old,), generation=2).changes == Changes(remove=[old.pair])
    gone = replace(old, active=False, cron=GONE, generation=2)
    assert not reconciled(rows=(gone,), generation=3).changes


def test_a_schedule_that_comes_back_into_the_file_starts() -> None:
    gone = row(cron=GONE, active=False, generation=2)
    assert reconciled(schedule(), rows=(gone,), generation=3).changes == Changes(start=[(gone.pair, EIGHT)])


def test_a_scheduler_with_an_older_file_does_not_bring_back_what_was_removed() -> None:
    gone = row(cron=GONE, active=False, generation=2)
    called = reconciled(schedule(), rows=(gone,), generation=1)
    assert called.outdated == ["digest"]
    assert not called.changes


def test_rows_written_by_hand_are_adopted_with_their_position() -> None:
    called = reconciled(schedule(), rows=(row(cron=ANY, generation=0),))
    assert called.changes == Changes(adopt=[(("digest", "UTC"), EIGHT)])


def test_marks_of_pauses_are_asked_for_where_they_are_missing() -> None:
    assert reconciled(schedule(), rows=(row(paused=True),)).changes.stamp
    assert reconciled(schedule(), rows=(row(paused_at=NOW),)).changes.stamp
    assert reconciled(schedule(), rows=(row(paused=True, paused_at=NOW, resumed_at=NOW),)).changes.stamp
    assert not reconciled(schedule(), rows=(row(paused=True, paused_at=NOW),)).changes.stamp
    assert not reconciled(schedule(), rows=(row(paused_at=NOW, resumed_at=NOW),)).changes.stamp


def test_a_pause_of_the_whole_schedule_is_forgotten_when_every_zone_has_recorded_it() -> None:
    over = PairState("digest", EVERY_ZONE, "*", NOW, paused_at=NOW, resumed_at=NOW + timedelta(hours=1))
    behind, done = row(zone="UTC"), replace(row(zone="Asia/Tokyo"), position=NOW + timedelta(hours=1))
    idle = row(zone="America/Lima", active=False)
    zones = {"UTC", "Asia/Tokyo"}
    assert not reconciled(schedule(zone=None), rows=(over, behind, done, idle), zones=zones).changes
    assert reconciled(schedule(zone=None), rows=(over, done, idle), zones={"Asia/Tokyo"}).changes.forget == ["digest"]


def test_a_pause_of_the_whole_schedule_is_no_zone() -> None:
    paused = PairState("digest", EVERY_ZONE, "*", NOW, paused=True, paused_at=NOW)
    called = reconciled(schedule(zone=None), rows=(paused,), zones=set(), generation=5)
    assert not called.changes
    assert not called.entries
