"""Plans mailings page by page, one transaction for each page, until every recipient has a row.

Any number of planners may run; the lock on a mailing's row keeps them apart. What a killed planner has committed stays,
and the next planner goes on from the cursor.
"""

import asyncio
import zoneinfo
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache

from sqlalchemy.exc import DBAPIError

from taskbell.database import Database, Transaction
from taskbell.errors import Overtaken
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.kinds import Kind
from taskbell.logs import logger
from taskbell.outbox import Outbox
from taskbell.zones import resolve_zone
from taskbell_notifier.domain import calendar_period
from taskbell_notifier.kinds.absent import Absent
from taskbell_notifier.kinds.table import Kinds, expires_at
from taskbell_notifier.lifecycle import IN_QUEUE
from taskbell_notifier.metrics import NotifierMetrics
from taskbell_notifier.planning.refusals import Refusals
from taskbell_notifier.repository import deliveries, planning
from taskbell_notifier.repository.planning import Periods, Planned
from taskbell_notifier.repository.statements import StatementError, of_package

POLL = 1.0
"""Seconds between searches for mailings that other processes inserted."""

FIRST_PAGE = 500
"""Users in the first transaction: few, so that the first mails go out while the rest is planned."""

PAGE = 5_000
"""Users in each further transaction."""

SLOW = 1.0
"""Seconds: a kind of which a page takes longer waits until no mailing of another kind is left to plan."""

BACKLOG = 500
"""While this many messages wait for the broker, planning waits."""

BACKLOG_PAUSE = 0.1
"""Seconds between checks of the backlog."""


class Planner:
    """Plans all mailings.

    Args:
        zone: the zone of users without a valid zone.
        expiry: by kind, how long after T its mails are sent.
        on_planned: called when a mailing has been planned.
    """

    def __init__(
        self,
        database: Database,
        kinds: Kinds,
        absent: Absent,
        *,
        gate: Gate,
        health: Health,
        outbox: Outbox,
        metrics: NotifierMetrics,
        zone: str,
        expiry: Mapping[str, timedelta],
        on_planned: Callable[[], None],
    ) -> None:
        self.name = "planner"
        self.wanted = asyncio.Event()
        """Set it when there is a mailing to plan."""
        self._database = database
        self._kinds = kinds
        self._absent = absent
        self._gate = gate
        self._refusals = Refusals(health)
        self._slow: set[str] = set()
        """Kinds of which a page took long, since no other mailing was left to plan."""
        self._outbox = outbox
        self._metrics = metrics
        self._calendar = Calendar(zone)
        self._expiry = expiry
        self._on_planned = on_planned
        self._log = logger("planner")

    async def run(self, stop: asyncio.Event) -> None:
        """Plans until `stop`; finishes the page that is being planned then."""
        # Planning is refused if, say, tables of the web app are missing; the service's other parts go on meanwhile.
        await self._gate.rounds(self.name, self._round, stop, wake=self.wanted, refused="waiting")

    async def _round(self) -> float:
        if not await self._has_room():
            return BACKLOG_PAUSE
        return 0.0 if await self.plan_page() else POLL

    async def plan_page(self) -> bool:
        """Plans one page of one mailing, or finds that it is done; returns False if there is nothing to plan now.

        A mailing whose own statement PostgreSQL refuses waits; `Refusals` says so.

        Raises:
            DatabaseUnavailable: nothing of the page took effect.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        kind: Kind | None = None
        try:
            async with self._database.transaction() as transaction:
                mailing = await self._next(transaction)
                if mailing is None:
                    self._refusals.nothing_left()
                    return False
                if mailing.kind not in self._kinds or not self._kinds[mailing.kind].is_planned:
                    await self._give_up(transaction, mailing)
                    return True
                kind = self._kinds[mailing.kind]
                await self._plan_page(transaction, kind, mailing)
        except Overtaken:
            # Now the other mailing's rows are there, and the page takes the run after theirs.
            return await self.plan_page()
        except (DBAPIError, StatementError) as error:
            if kind is None:
                raise
            self._refusals.add(kind, error, took=loop.time() - began)
        else:
            self._refusals.over(kind.name)
            if loop.time() - began > SLOW:
                self._slow.add(kind.name)
        return True

    async def _next(self, transaction: Transaction) -> Planned | None:
        """The mailing whose next page is planned now, locked; those of slow kinds wait until no other is left."""
        but = [*self._refusals.kinds(), *self._absent.left_alone()]
        mailing = await planning.next_mailing(transaction, page=PAGE, but=[*but, *self._slow])
        if mailing is None and self._slow:
            self._slow.clear()
            mailing = await planning.next_mailing(transaction, page=PAGE, but=but)
        return mailing

    async def _give_up(self, transaction: Transaction, mailing: Planned) -> None:
        """Ends a mailing that cannot be planned here, unless another notifier may know its kind."""
        known = mailing.kind in self._kinds
        if known or not self._absent.grace_left(mailing.kind):
            note = f"kind {mailing.kind} is not {'planned any more' if known else 'installed'}"
            await self._finish(transaction, mailing, note)
            self._log.error("mailing.unknown_kind", mailing_id=mailing.id, kind=mailing.kind)

    async def _plan_page(self, transaction: Transaction, kind: Kind, mailing: Planned) -> None:
        app, size = self._database.app, PAGE if mailing.cursor else FIRST_PAGE
        last = await planning.window(transaction, app, mailing, page=size)
        if last is None:
            await self._finish(transaction, mailing)
            self._log.info("mailing.planned", mailing_id=mailing.id, kind=kind.name)
            return
        with of_package(kind.who, f"the statement that says who gets {kind.name} mails"):
            rows = await planning.plan(
                transaction,
                app,
                kind,
                mailing,
                last,
                self._calendar.periods(kind, mailing.at),
                expires_at=expires_at(kind, mailing.at, self._expiry),
                wait=IN_QUEUE,
            )
        self._outbox.wake_after(transaction)
        transaction.after_commit(lambda: self._metrics.planned.labels(kind.name).inc(rows))

    async def _finish(self, transaction: Transaction, mailing: Planned, note: str | None = None) -> None:
        await planning.finish(transaction, mailing, note=note)
        transaction.after_commit(self._on_planned)

    async def _has_room(self) -> bool:
        """True if planning may go on: the messages that wait for the broker must not grow with the number of users."""
        async with self._database.transaction() as transaction:
            return await deliveries.unpublished(transaction, BACKLOG) < BACKLOG


class Calendar:
    """The period that T falls in, for every zone.

    Zones are resolved here and joined as rows: PostgreSQL would refuse the whole statement for one invalid zone in one
    user's row, and it knows zones that Python does not.
    """

    def __init__(self, default: str) -> None:
        """Makes a calendar; `default` is the zone of users without a valid zone."""
        self._default = default
        self._zones = {
            name: zone for name in sorted(zoneinfo.available_timezones()) if (zone := resolve_zone(name)) is not None
        }
        self.periods = lru_cache(maxsize=8)(self._periods)

    def _periods(self, kind: Kind, at: datetime) -> Periods:
        found = {name: calendar_period(kind, at, zone) for name, zone in self._zones.items()}
        return Periods(tuple(found), tuple(found.values()), self._default, found[self._default])
