"""Decides which schedule runs in which zone: compares the file and the zones of active users with `schedule_state`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from taskbell.zones import resolve_zone
from taskbell_scheduler.domain import EVERY_ZONE, Entry, Pair, PairState
from taskbell_scheduler.schedules import Schedule

ANY = ""
"""A row's expression if the row was written by hand: its position holds for any expression of the file."""

GONE = "-"
"""A row's expression if the scheduler that started last does not have this schedule, or not in this zone."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes to write to the table. Each is conditional, because another scheduler may be first."""

    start: list[tuple[Pair, str]] = field(default_factory=list)
    """Pairs that are new, changed or in use again, each with its expression; they begin at this moment."""
    adopt: list[tuple[Pair, str]] = field(default_factory=list)
    """Rows without an expression, which get this one and keep their position."""
    retire: list[Pair] = field(default_factory=list)
    """Pairs whose zone no active user has any more."""
    remove: list[Pair] = field(default_factory=list)
    """Pairs that the file no longer has."""
    stamp: bool = False
    """Whether somebody set or ended a pause by hand, so that its time must be stored."""
    forget: list[str] = field(default_factory=list)
    """Schedules whose pause in all zones is over, and recorded in every zone."""

    def __bool__(self) -> bool:
        return any((self.start, self.adopt, self.retire, self.remove, self.stamp, self.forget))


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What this scheduler runs, and what it has to write first."""

    entries: Mapping[Pair, Entry] = field(default_factory=dict)
    outdated: Sequence[str] = ()
    """Schedules that this scheduler does not run, because one that started later has another file."""
    changes: Changes = field(default_factory=Changes)


def reconcile(
    schedules: Sequence[Schedule],
    recipient_zones: Collection[str] | None,
    states: Mapping[Pair, PairState],
    generation: int,
) -> Reconciliation:
    """Compares what should run with what the table says.

    Args:
        schedules: the schedules of the file.
        recipient_zones: zones of active users; None: they are not known, and the zones that run go on.
        states: the whole table.
        generation: the number of this scheduler. If files differ, the scheduler with the highest number, which started
            last, decides.
    """
    wanted = _wanted(schedules, recipient_zones, states)
    entries: dict[Pair, Entry] = {}
    outdated: set[str] = set()
    start, adopt = [], []
    for pair, entry in wanted.items():
        state, cron = states.get(pair), entry.schedule.cron.text
        if state is None or (state.cron in {cron, ANY} and not state.active):
            start.append((pair, cron))
        elif state.cron == ANY:
            adopt.append((pair, cron))
        elif state.cron == cron:
            entries[pair] = entry
        elif generation > state.generation:
            start.append((pair, cron))
        else:
            outdated.add(pair[0])
    by_name = {schedule.name: schedule for schedule in schedules}
    idle = [state for pair, state in states.items() if pair not in wanted and state.zone != EVERY_ZONE]
    retire = [state.pair for state in idle if state.active and _lost_its_users(state, by_name)]
    remove = [
        state.pair
        for state in idle
        if (state.active or state.cron != GONE)
        and not _lost_its_users(state, by_name)
        and generation > state.generation
    ]
    changes = Changes(start, adopt, retire, remove, _unstamped(states), _recorded(states))
    return Reconciliation(entries, sorted(outdated), changes)


def _wanted(
    schedules: Sequence[Schedule], recipient_zones: Collection[str] | None, states: Mapping[Pair, PairState]
) -> dict[Pair, Entry]:
    entries = []
    for schedule in schedules:
        if schedule.zone:
            entries.append(Entry(schedule, schedule.zone))
            continue
        names = recipient_zones
        if names is None:
            names = [state.zone for state in states.values() if state.schedule == schedule.name and state.active]
        entries += [Entry(schedule, zone) for zone in map(resolve_zone, names) if zone]
    return {entry.pair: entry for entry in entries}


def _lost_its_users(state: PairState, by_name: Mapping[str, Schedule]) -> bool:
    """Whether the file still has this schedule, so that it is idle only because no user has its zone."""
    schedule = by_name.get(state.schedule)
    return schedule is not None and schedule.zone is None and state.cron in {schedule.cron.text, ANY}


def _unstamped(states: Mapping[Pair, PairState]) -> bool:
    return any(
        (not state.paused_at or state.resumed_at) if state.paused else (state.paused_at and not state.resumed_at)
        for state in states.values()
    )


def _recorded(states: Mapping[Pair, PairState]) -> list[str]:
    over = {
        state.schedule: state.resumed_at
        for state in states.values()
        if state.zone == EVERY_ZONE and state.resumed_at and not state.paused
    }
    for state in states.values():
        resumed_at = over.get(state.schedule)
        if resumed_at and state.active and state.zone != EVERY_ZONE and state.position < resumed_at:
            del over[state.schedule]
    return sorted(over)
