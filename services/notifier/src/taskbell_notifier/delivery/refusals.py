"""Settles refusals that name neither the sender nor the recipient, and the same hard refusal to many.

Each notifier looks at what all of them have met. So a pause outlives a restart, and three people who met the same words
in three processes are three.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from taskbell.database import Database, Transaction
from taskbell.gate import Gate
from taskbell.health import Health
from taskbell.logs import logger
from taskbell.outbox import Outbox
from taskbell_notifier.lifecycle import SUSPECTED_PAUSE, Change, DeliveryState
from taskbell_notifier.metrics import NotifierMetrics
from taskbell_notifier.refusals import Judgement, Refused, judge_refusals, reasons
from taskbell_notifier.repository import deliveries, refusals
from taskbell_notifier.smtp.breaker import NOT_THE_RECIPIENT, BreakerState
from taskbell_notifier.smtp.pool import SmtpPool

POLL = 2.0
"""Seconds between two rounds."""

SETTLE = timedelta(seconds=10)
"""How long after the beginning of a pause mails are taken that were under way then; probes come later."""


class Refusals:
    """The part that judges.

    Args:
        sending: the gate that is closed while sending is paused.
        on_ended: called when rows have ended.
        settle: how long after the beginning of a pause mails may still be taken that were under way then.
    """

    def __init__(
        self,
        database: Database,
        pool: SmtpPool,
        *,
        gate: Gate,
        sending: Gate,
        health: Health,
        outbox: Outbox,
        metrics: NotifierMetrics,
        on_ended: Callable[[], None],
        settle: timedelta = SETTLE,
    ) -> None:
        self.name = "refusals"
        self._database = database
        self._pool = pool
        self._gate = gate
        self._sending = sending
        self._health = health
        self._outbox = outbox
        self._metrics = metrics
        self._on_ended = on_ended
        self._settle = settle
        self._told: dict[str, datetime] = {}
        """By words, when the last refusal was held that the pool was told of."""
        self._log = logger("refusals")

    async def run(self, stop: asyncio.Event) -> None:
        """Judges until `stop`."""
        await self._gate.rounds(self.name, self._round, stop)

    async def _round(self) -> float:
        await self.settle()
        return POLL

    async def settle(self) -> None:
        """Judges what is kept, in one transaction.

        Raises:
            DatabaseUnavailable: nothing took effect.
        """
        async with self._database.transaction() as transaction:
            met = await refusals.read(transaction, settle=self._settle)
            if len(met) < await refusals.count_kept(transaction):
                return  # another process judges the others now, and tells what stands
            known = self._pool.suspicions
            found = judge_refusals(met, needed=known.needed, knows=known.knows)
            for words, several in found.hold.items():
                await self._hold(transaction, words, several)
            # While sending is paused here, nobody ends: few mails are tried that could show whose fault it is.
            ended = await self._end(transaction, found) if self._sending.is_open else []
            if found.drop:
                await refusals.drop(transaction, _ids(found.drop))
        self._metrics.refused.set(sum(it.state is not None for it in met))
        self._tell(found)
        for it in ended:
            self._metrics.changed(it.kind, it.state)
        if ended:
            self._on_ended()

    async def _hold(self, transaction: Transaction, words: str, several: Sequence[Refused]) -> None:
        reason = f"sending is paused, because several people met this: {_plain(several[-1].reason)}"
        await refusals.hold(transaction, _ids(several), wait=SUSPECTED_PAUSE, reason=reason)
        self._log.warning("refusals.held", rows=len(several), reason=_plain(several[-1].reason))

    async def _end(self, transaction: Transaction, found: Judgement) -> list[deliveries.Changed]:
        """Ends, releases and plans again, as judged."""
        changes = [Change(it.delivery_id, it.claim, DeliveryState.FAILED, _plain(it.reason)) for it in found.fail]
        ended: list[deliveries.Changed] = []
        if changes:
            await refusals.count(transaction, _ids(found.fail))
            ended = await deliveries.change(transaction, changes)
        if found.release:
            await refusals.release(transaction, _ids(found.release))
        planned = await refusals.plan_again(transaction, found.again) if found.again else 0
        settled = [*found.fail, *found.release, *found.again]
        if settled:
            await refusals.drop(transaction, _ids(settled))
            self._outbox.wake_after(transaction)
            self._log.info("refusals.settled", failed=len(ended), released=len(found.release), planned_again=planned)
        return ended

    def _tell(self, found: Judgement) -> None:
        """Tells the pool of pauses that it does not know yet, and readiness of all that stand."""
        now = {words: met[-1].now for words, met in found.hold.items() if words not in found.paused}
        since = now | {words: max(_held(it) for it in met) for words, met in found.paused.items()}
        said = reasons(found.paused | found.hold)
        for words, begun in since.items():
            if words not in self._told or self._told[words] < begun:
                self._pool.suspect(words, _plain(said[words]))
        self._told = since
        standing = next(iter(said.values()), None)
        breaker = self._pool.breaker.status
        if standing is not None:
            self._health.set("mail server", "degraded", f"it refuses mail to everybody: {_plain(standing)}")
        elif breaker.state is not BreakerState.SENDING and breaker.reason.startswith(NOT_THE_RECIPIENT):
            # Between two tries the gate is open, but only a mail that is taken shows that the refusals are over.
            self._health.set("mail server", "degraded", breaker.reason)
        else:
            self._health.set("mail server", "ready")


def _ids(met: Sequence[Refused]) -> list[int]:
    return [it.delivery_id for it in met]


def _held(it: Refused) -> datetime:
    assert it.held_at is not None
    return it.held_at


def _plain(reason: str) -> str:
    """The server's reply alone, without what the row waited for."""
    return reason.partition(": ")[2] if reason.startswith(("waits ", "sending is paused")) else reason
