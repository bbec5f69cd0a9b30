"""Which schedule runs in which zone: the file and the zones of active users, held against `schedule_state`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from taskbell.zones import resolve_zone
from taskbell_scheduler.domain import EVERY_ZONE, Entry, Pair, PairState
from taskbell_scheduler.schedules import Schedule

ANY = ""
"""As a row's expression: the row was written by hand; its position holds for whatever the file says."""

GONE = "-"
"""As a row's expression: the schedule is not, or not in this zone, in the file of the scheduler that started last."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What must be written before the roster is in force. Each is conditional: another scheduler may be first."""

    start: list[tuple[Pair, str]] = field(default_factory=list)
    """Seen for the first time, changed, or in use again, each with its expression: begins at this moment."""
    adopt: list[tuple[Pair, str]] = field(default_factory=list)
    """Rows without an expression get theirs, and keep their position."""
    retire: list[Pair] = field(default_factory=list)
    """No active user has the zone any more."""
    remove: list[Pair] = field(default_factory=list)
    """The file has it no more."""
    stamp: bool = False
    """A pause was set or ended by hand; note when."""
    forget: list[str] = field(default_factory=list)
    """Schedules whose pause as a whole is over and recorded in every zone."""

    def __bool__(self) -> bool:
        return any((self.start, self.adopt, self.retire, self.remove, self.stamp, self.forget))


@dataclass(frozen=True, slots=True)
class Roster:
    """What this scheduler has to attend to."""

    entries: Mapping[Pair, Entry] = field(default_factory=dict)
    outdated: Sequence[str] = ()
    """Schedules that a scheduler with another file, started later, has changed: left to it."""
    changes: Changes = field(default_factory=Changes)


def call_roster(
    schedules: Sequence[Schedule],
    recipient_zones: Collection[str] | None,
    states: Mapping[Pair, PairState],
    generation: int,
) -> Roster:
    """Compares what should run with what the table says.

    Args:
        schedules: of the file.
        recipient_zones: zones of active users; None: not known, those that run go on.
        states: the whole table.
        generation: of this scheduler; the highest started last and has the say where files differ.
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
    return Roster(entries, sorted(outdated), changes)


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
    """The file still has it, so every scheduler agrees that it is the zone that is not needed."""
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
