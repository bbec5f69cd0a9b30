"""The scheduler's loop: wakes when something is due, and regularly reads what people and other schedulers changed.

Any number of schedulers may run. Each keeps in memory when its entries are next due. It decides about an entry from the
entry's row, locked and read again in the transaction that also writes the result. So a scheduler that is slow, stalled
or behind does no harm: it finds the occurrence recorded already.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy.exc import DBAPIError

from taskbell.database import Database, Transaction, sqlstate
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.logs import logger
from taskbell.outbox import Outbox
from taskbell.zones import resolve_zone
from taskbell_scheduler.domain import (
    EVERY_ZONE,
    Decision,
    Entry,
    OccurrenceStatus,
    Pair,
    PairState,
    Record,
    decide,
    next_due,
)
from taskbell_scheduler.metrics import SchedulerMetrics
from taskbell_scheduler.reconcile import Changes, Reconciliation, reconcile
from taskbell_scheduler.repository import scheduling
from taskbell_scheduler.repository.scheduling import (
    DEADLOCK,
    LOCK_NOT_AVAILABLE,
    UNIQUE_VIOLATION,
    Fingerprint,
    OccurrenceKey,
    Snapshot,
)
from taskbell_scheduler.schedules import Schedule

LOOK = 5.0
"""Seconds between looks at `schedule_state`: a pause or a position that a person sets takes effect this soon."""

ZONES_LOOK = 30.0
"""Seconds between looks at the zones of active users."""

TOGETHER = 200
"""Entries decided in one transaction. If many are due at once, the first need not wait for the last."""

AGAIN = timedelta(seconds=0.2)
"""When to try again to lock a row that another scheduler holds: that one may die before it has committed."""

SHORTEST_SLEEP = 0.002
"""Seconds."""

# Writing changes may lead to more, for example after a row was adopted. The rest waits for the next look.
_ROUNDS = 3


class Scheduler:
    """Publishes each occurrence of its schedules once, however many schedulers run.

    Args:
        default_zone: the zone of active users whose own is unknown.
        gate: the gate of the database.
        look: seconds between looks at the table.
    """

    def __init__(
        self,
        schedules: Sequence[Schedule],
        default_zone: str,
        *,
        database: Database,
        outbox: Outbox,
        gate: Gate,
        health: Health,
        metrics: SchedulerMetrics,
        look: float = LOOK,
    ) -> None:
        self.name = "schedules"
        self._schedules = schedules
        self._default_zone = default_zone
        self._database = database
        self._outbox = outbox
        self._gate = gate
        self._health = health
        self._metrics = metrics
        self._look_every = look
        self._log = logger("scheduler")
        self._generation: int | None = None
        self._zones: frozenset[str] | None = None
        self._zones_seen_at: datetime | None = None
        self._entries: Mapping[Pair, Entry] = {}
        self._states: dict[Pair, PairState] = {}
        self._due: dict[Pair, datetime | None] = {}
        self._next_look = self._next_zones_look = 0.0
        self._seen: tuple[Fingerprint, frozenset[str] | None] | None = None
        self._clock: tuple[datetime, float] | None = None
        health.expect(self.name)
        if any(schedule.zone is None for schedule in schedules):
            health.expect("recipients")

    async def run(self, stop: asyncio.Event) -> None:
        """Publishes what is due until `stop`."""

        async def turn() -> float:
            await self.turn(stop)
            return self._pause()

        await self._gate.rounds(f"{self.name} table", turn, stop, refused="waiting")

    async def turn(self, stop: asyncio.Event) -> None:
        """Reads the table if it is time to, and decides about everything that is due.

        Raises:
            DatabaseUnavailable: what was not committed will be done by the next turn of any scheduler.
        """
        if self._clock is None or self._time() >= self._next_look:  # the first look may have failed halfway
            await self._look()
        now = self._now()
        due = sorted((at, pair) for pair, at in self._due.items() if at and at <= now)
        for pairs in _pieces([pair for _, pair in due], TOGETHER):
            if stop.is_set():
                return
            await self._decide(pairs)

    async def _look(self) -> None:
        """Reads the table and the zones if they changed, and brings the table up to date with the file."""
        self._next_look = self._time() + self._look_every
        if any(schedule.zone is None for schedule in self._schedules) and self._time() >= self._next_zones_look:
            await self._look_at_zones()
            self._next_zones_look = self._time() + ZONES_LOOK
        async with self._database.transaction() as transaction:
            now, fingerprint = await scheduling.fingerprint(transaction)
        self._synchronise(now)
        if self._seen == (fingerprint, self._zones):
            return
        found = Reconciliation()
        for _ in range(_ROUNDS):
            before = found
            try:
                found = await self._reconcile()
            except DBAPIError as error:
                if sqlstate(error) not in {LOCK_NOT_AVAILABLE, DEADLOCK}:
                    raise
                # Somebody holds a row. The entries that run go on, and the next look tries again.
                self._log.warning("roster.locked")
                return
            if not found.changes or found.changes == before.changes:
                break  # nothing is left to change, or others were first
            self._log.info("roster.changed", **_counts(found.changes))
        if found.changes.retire:
            self._next_zones_look = 0.0  # another scheduler still uses these zones: read again who has them
        if found.outdated:
            names = ", ".join(found.outdated)
            self._health.set(
                self.name, "degraded", f"a scheduler with another file started later and runs instead of this: {names}"
            )
        else:
            self._health.set(self.name, "ready")

    async def _reconcile(self) -> Reconciliation:
        async with self._database.transaction() as transaction:
            if self._generation is None:
                self._generation = await scheduling.next_generation(transaction)
            _, fingerprint = await scheduling.fingerprint(transaction)
            snapshot = await scheduling.snapshot(transaction)
            found = reconcile(self._schedules, self._zones, snapshot.states, self._generation)
            self._take_over(found.entries, snapshot)
            self._seen = None if found.changes else (fingerprint, self._zones)
            if found.changes:
                await scheduling.apply(transaction, found.changes, self._generation, self._zones_seen_at)
        return found

    async def _look_at_zones(self) -> None:
        try:
            async with self._database.transaction() as transaction:
                seen_at, found = await scheduling.zones_of_active_users(transaction, self._database.app)
        except DBAPIError as error:
            # The web app's table is missing, not as promised, closed to us, or locked. Other schedules go on.
            self._health.set("recipients", "waiting", f"cannot read the zones of users ({sqlstate(error)})")
            return
        known = (zone if zone and resolve_zone(zone) else self._default_zone for zone in found)
        self._zones, self._zones_seen_at = frozenset(known), seen_at
        self._health.set("recipients", "ready")

    def _take_over(self, entries: Mapping[Pair, Entry], snapshot: Snapshot) -> None:
        """Replaces entries and rows; computes when an entry is due only if it differs from before."""
        before, entries_before = self._states, self._entries
        self._entries, self._states = entries, dict(snapshot.states)
        self._synchronise(snapshot.now)
        kept = {
            pair: self._due[pair]
            for pair in entries
            if pair in entries_before
            and before.get(pair) == self._states[pair]
            and before.get((pair[0], EVERY_ZONE)) == self._states.get((pair[0], EVERY_ZONE))
        }
        self._due = kept | {pair: self._when(pair) for pair in entries if pair not in kept}

    async def _decide(self, pairs: Sequence[Pair]) -> None:
        """Decides about everything that is due for these pairs, and writes it."""
        decisions: list[Decision] = []
        recorded: Collection[OccurrenceKey] = ()
        held: set[Pair] = set()
        stale: set[Pair] = set()
        async with self._database.transaction() as transaction:
            snapshot = await scheduling.lock(transaction, pairs)
            for pair in pairs:
                state, entry = snapshot.states.get(pair), self._entries[pair]
                if state is None:
                    held.add(pair)
                    continue
                if not state.active or state.cron != entry.schedule.cron.text:
                    stale.add(pair)
                    continue
                decision = decide(entry, state, snapshot.states.get((pair[0], EVERY_ZONE)), snapshot.now)
                if decision.records or decision.pause_ends:
                    decisions.append(decision)
            if decisions:
                recorded = await self._record(transaction, decisions)
                self._outbox.wake_after(transaction)
        if stale:
            self._next_look, self._seen = 0.0, None  # somebody changed these rows meanwhile: read the table again
        self._synchronise(snapshot.now)
        self._states.update(snapshot.states)
        self._report(decisions, recorded, snapshot.now)
        for decision in decisions:
            pair = decision.entry.pair
            state = replace(snapshot.states[pair], position=decision.position)
            self._states[pair] = replace(state, paused_at=None, resumed_at=None) if decision.pause_ends else state
        for pair in pairs:
            self._due[pair] = snapshot.now + AGAIN if pair in held else None if pair in stale else self._when(pair)

    async def _record(self, transaction: Transaction, decisions: Sequence[Decision]) -> Collection[OccurrenceKey]:
        try:
            return await scheduling.record(transaction, decisions)
        except DBAPIError as error:
            # Readiness says so, too. The next turn tries again, with other ids.
            if sqlstate(error) == UNIQUE_VIOLATION:
                self._log.error("occurrence.foreign", schedules=sorted({it.entry.schedule.name for it in decisions}))
            raise

    def _report(self, decisions: Sequence[Decision], recorded: Collection[OccurrenceKey], now: datetime) -> None:
        """Counts and logs what was recorded, with one line for each schedule and status, not for each zone."""
        reported: dict[tuple[str, OccurrenceStatus], list[tuple[str, Record]]] = {}
        for decision in decisions:
            schedule, zone = decision.entry.pair
            for record in decision.records:
                if (schedule, zone, record.key) in recorded:
                    reported.setdefault((schedule, record.status), []).append((zone, record))
                    if record.status == "published":
                        self._metrics.lateness.observe((now - record.at).total_seconds())
        for (schedule, status), records in reported.items():
            count = sum(record.count for _, record in records)
            self._metrics.occurrences.labels(schedule, status).inc(count)
            log = self._log.info if status == "published" else self._log.warning
            newest = max((record for _, record in records), key=lambda record: record.at)
            zones = sorted({zone for zone, _ in records})
            reason = {"reason": newest.reason} if newest.reason else {}
            log(f"occurrence.{status}", schedule=schedule, zones=zones, count=count, newest=newest.key, **reason)

    def _when(self, pair: Pair) -> datetime | None:
        return next_due(self._entries[pair], self._states[pair], self._states.get((pair[0], EVERY_ZONE)))

    def _pause(self) -> float:
        """Seconds to sleep: until the next look, or until something is due."""
        waiting = [at for at in self._due.values() if at]
        until_look = self._next_look - self._time()
        until_due = (min(waiting) - self._now()).total_seconds() if waiting else until_look
        return max(SHORTEST_SLEEP, min(until_look, until_due))

    def _synchronise(self, now: datetime) -> None:
        self._clock = (now, self._time())

    def _now(self) -> datetime:
        """The database's time, continued since its last answer by a monotonic clock."""
        assert self._clock is not None  # _look() comes first
        answered, at = self._clock
        return answered + timedelta(seconds=self._time() - at)

    def _time(self) -> float:
        return asyncio.get_running_loop().time()


def _pieces(pairs: Sequence[Pair], size: int) -> Iterator[list[Pair]]:
    rest = iter(pairs)
    while piece := list(islice(rest, size)):
        yield piece


def _counts(changes: Changes) -> dict[str, int]:
    return {
        "started": len(changes.start),
        "adopted": len(changes.adopt),
        "retired": len(changes.retire),
        "removed": len(changes.remove),
    }
