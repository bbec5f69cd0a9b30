"""Plans mailings: page by page, each page one transaction, until everybody who is to be told has a row.

Any number of planners may run. The lock on a mailing's row keeps them apart; what a killed planner has committed is
done, and the next one goes on from the cursor.
"""

import asyncio
import zoneinfo
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache

from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.kinds import Kind
from taskbell.logs import logger
from taskbell.outbox import Outbox
from taskbell.zones import resolve_zone
from taskbell_notifier.domain import calendar_period
from taskbell_notifier.kinds.table import Kinds, expires_at
from taskbell_notifier.lifecycle import IN_QUEUE
from taskbell_notifier.metrics import Measures
from taskbell_notifier.repository import deliveries, planning
from taskbell_notifier.repository.planning import Periods

POLL = 1.0
"""Seconds between looks for mailings that other processes inserted."""

FIRST_PAGE = 500
"""Users: so that the first mails go out while the rest is planned."""

PAGE = 5_000
"""Users in each further transaction."""

BACKLOG = 500
"""Messages that may wait for the broker before planning waits for them."""

BACKLOG_PAUSE = 0.1
"""Seconds between looks at the backlog."""


class Planner:
    """Plans whatever mailing there is to plan.

    Args:
        on_planned: called when a mailing has been planned.
        expiry: by kind, how long after T its mails are sent.
    """

    def __init__(
        self,
        database: Database,
        kinds: Kinds,
        *,
        gate: Gate,
        outbox: Outbox,
        measures: Measures,
        zone: str,
        expiry: Mapping[str, timedelta],
        on_planned: Callable[[], None],
    ) -> None:
        self.name = "planner"
        self.wanted = asyncio.Event()
        """Set it when there is a mailing to plan."""
        self._database = database
        self._kinds = kinds
        self._gate = gate
        self._outbox = outbox
        self._measures = measures
        self._calendar = Calendar(zone)
        self._expiry = expiry
        self._on_planned = on_planned
        self._log = logger("planner")

    async def run(self, stop: asyncio.Event) -> None:
        """Plans until `stop`; the page that is being planned then is finished first."""
        # Refused if, say, tables of the web app are missing: what else this service does goes on meanwhile.
        await self._gate.rounds(self.name, self._round, stop, wake=self.wanted, refused="waiting")

    async def _round(self) -> float:
        if not await self._has_room():
            return BACKLOG_PAUSE
        return 0.0 if await self.plan_page() else POLL

    async def plan_page(self) -> bool:
        """Plans one page of one mailing, or finds that it is done; False where there is nothing to plan.

        Raises:
            DatabaseUnavailable: nothing of the page took effect.
        """
        app = self._database.app
        async with self._database.transaction() as transaction:
            mailing = await planning.next_mailing(transaction, page=PAGE)
            if mailing is None:
                return False
            if mailing.kind not in self._kinds:
                await planning.finish(transaction, mailing, note=f"kind {mailing.kind} is not installed")
                transaction.after_commit(self._on_planned)
                self._log.error("mailing.unknown_kind", mailing_id=mailing.id, kind=mailing.kind)
                return True
            kind = self._kinds[mailing.kind]
            size = PAGE if mailing.cursor else FIRST_PAGE
            last = await planning.window(transaction, app, mailing, page=size)
            if last is None:
                await planning.finish(transaction, mailing)
                transaction.after_commit(self._on_planned)
                self._log.info("mailing.planned", mailing_id=mailing.id, kind=kind.name)
                return True
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
        self._measures.planned.labels(kind.name).inc(rows)
        return True

    async def _has_room(self) -> bool:
        """Planning runs ahead of the broker only so far: what waits for it must not grow with the users."""
        async with self._database.transaction() as transaction:
            return await deliveries.unpublished(transaction, BACKLOG) < BACKLOG


class Calendar:
    """What period T falls in, in every zone that there is.

    Zones are resolved here and joined as rows: PostgreSQL would refuse the whole statement for one bad string in one
    user's row, and knows zones that Python does not.
    """

    def __init__(self, default: str) -> None:
        """Makes it; `default` is the zone of people who have none that we know."""
        self._default = default
        self._zones = {
            name: zone for name in sorted(zoneinfo.available_timezones()) if (zone := resolve_zone(name)) is not None
        }
        self.periods = lru_cache(maxsize=8)(self._periods)

    def _periods(self, kind: Kind, at: datetime) -> Periods:
        found = {name: calendar_period(kind, at, zone) for name, zone in self._zones.items()}
        return Periods(tuple(found), tuple(found.values()), self._default, found[self._default])
