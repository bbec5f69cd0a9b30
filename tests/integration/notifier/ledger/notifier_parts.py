"""The notifier's parts one by one, for tests that call or hold each by itself."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from tests.integration.notifier.ledger.support import SENDER, NotifierTables, received, settings_for
from tests.support.kinds import KINDS
from tests.support.probes import ping
from tests.support.scripted_smtp import ScriptedSmtp

from taskbell.clock import SystemClock
from taskbell.contracts import MailingDue, OverdueDue, SendBatch
from taskbell.database import Database
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.metrics import Metrics
from taskbell.outbox import Outbox
from taskbell_notifier.delivery.compose import Composer
from taskbell_notifier.delivery.ledger import Ledger
from taskbell_notifier.delivery.refusals import Refusals
from taskbell_notifier.delivery.sender import Sender
from taskbell_notifier.delivery.sweeper import Sweeper
from taskbell_notifier.kinds.absent import Absent
from taskbell_notifier.kinds.table import Kinds
from taskbell_notifier.mail.headers import parse_sender
from taskbell_notifier.mail.mime import MailWriter
from taskbell_notifier.mail.render import Renderer
from taskbell_notifier.metrics import NotifierMetrics
from taskbell_notifier.planning.completion import Completion
from taskbell_notifier.planning.mailings import Mailings
from taskbell_notifier.planning.planner import Planner
from taskbell_notifier.smtp.breaker import Waits
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.smtp.settings import SmtpSettings

LEASE = timedelta(seconds=30)
PROMPT = Waits(first=0.02, longest=0.05, configuration=0.05)


class NotifierParts:
    """Planner, sender, sweeper and completion of one notifier, which do not run: tests call them."""

    def __init__(self, database: Database, renderer: Renderer, *, kinds: Kinds = KINDS, **given: Any) -> None:
        self.settings = settings_for("postgresql://nobody@127.0.0.1:9/none", **given)
        self.database = database
        self.kinds = kinds
        self.health = Health()
        self.metrics = NotifierMetrics(Metrics())
        self.gate = Gate("postgresql", partial(ping, database), self.health)
        self.outbox = Outbox("notifier")
        self.completion = Completion(database, gate=self.gate, outbox=self.outbox)
        self.wanted = asyncio.Event()
        self.mailings = Mailings(
            database,
            self.outbox,
            kinds,
            expiry=self.settings.expiry(kinds),
            planning=self.wanted,
            completion=self.completion.wanted,
        )
        self.absent = Absent()
        self.planner = Planner(
            database,
            kinds,
            self.absent,
            gate=self.gate,
            health=self.health,
            outbox=self.outbox,
            metrics=self.metrics,
            zone=self.settings.timezone,
            expiry=self.settings.expiry(kinds),
            on_planned=self.completion.wanted.set,
        )
        self._renderer = renderer
        self._gates: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()

    async def start(self, event: MailingDue | None = None, message_id: str = "m1", **envelope: Any) -> None:
        """Handles a mailing's event."""
        await self.mailings.start([received(event or OverdueDue(), message_id, **envelope)])

    async def plan(self, event: MailingDue | None = None, message_id: str = "m1") -> None:
        """Handles a mailing's event, and plans the mailing to its end."""
        await self.start(event, message_id)
        while await self.planner.plan_page():
            pass

    def add_sender(self, server: ScriptedSmtp, **smtp: Any) -> Sender:
        """Makes a sender with a pool of its own, for that server."""
        settings = SmtpSettings(
            **{"server": "127.0.0.1", "port": server.port, "local_hostname": "tests.example.org", "pool_size": 2} | smtp
        )
        self.pool = SmtpPool(settings, SystemClock(), waits=PROMPT)
        self.ledger = Ledger(
            self.database,
            gate=self.gate,
            outbox=self.outbox,
            metrics=self.metrics,
            lease=LEASE,
            data=timedelta(seconds=settings.data_timeout),
            domain="example.org",
            hold=self.settings.unknown_policy == "hold",
            sessions=lambda: self.pool.busy,
            on_ended=self.completion.wanted.set,
        )
        self.sender = Sender(
            self.database,
            self.kinds,
            self.ledger,
            Composer(self.kinds, self.absent, self._renderer, MailWriter(parse_sender(SENDER)), None, ZoneInfo("UTC")),
            self.pool,
            SystemClock(),
            Random(1),
            sessions=settings.pool_size,
            suppress=self.settings.mail_suppress_send,
        )
        return self.sender

    def refusals(self, *, paused: bool = False) -> Refusals:
        """Makes what judges refusals, for the pool of `add_sender`; mails count at once that are taken in a pause."""
        sending = Gate("smtp", partial(ping, self.database), self.health)
        if not paused:
            sending.open()
        return Refusals(
            self.database,
            self.pool,
            gate=self.gate,
            sending=sending,
            health=self.health,
            outbox=self.outbox,
            metrics=self.metrics,
            on_ended=self.completion.wanted.set,
            settle=timedelta(0),
        )

    async def send(self, ids: Sequence[int] | None = None) -> None:
        """Handles a batch message with these rows, by default with all open ones."""
        if ids is None:
            async with self.database.transaction() as tx:
                rows = await tx.rows("SELECT id FROM taskbell.delivery WHERE ended_at IS NULL ORDER BY id LIMIT 100")
            ids = [row.id for row in rows]
        if ids:
            await self.sender.send([received(SendBatch(delivery_ids=tuple(ids)))])

    def sweeper(self, *, idle: bool = True, paused: bool = False, judges: bool = True) -> Sweeper:
        """Makes a sweeper; with `judges`, PostgreSQL has answered for a full lease."""
        sending = Gate("smtp", partial(ping, self.database), self.health)
        if not paused:
            sending.open()
        if judges:
            self.gate.open()
        return Sweeper(
            self.database,
            gate=self.gate,
            sending=sending,
            outbox=self.outbox,
            metrics=self.metrics,
            idle=lambda _: idle,
            lease=timedelta(0) if judges else LEASE,
            hold=self.settings.unknown_policy == "hold",
            on_ended=self.completion.wanted.set,
        )

    async def open_gate(self) -> None:
        """Opens PostgreSQL's gate, which is probed from now on."""
        self._gates.append(asyncio.create_task(self.gate.run(self._stop)))
        await self.gate.wait_open()

    async def close(self) -> None:
        """Ends what was started, and closes pool, sender and ledger."""
        self._stop.set()
        await asyncio.gather(*self._gates)
        if hasattr(self, "sender"):
            await self.pool.close(0)
            await self.sender.close()
            await self.ledger.close()


async def planned(tables: NotifierTables, parts: NotifierParts, server: ScriptedSmtp, *users: int, **smtp: Any) -> None:
    """Plans an overdue mail for each of these users, by default for user 1, and adds a sender."""
    await tables.late_people(*(users or (1,)))
    await parts.plan()
    parts.add_sender(server, **smtp)
