"""Sends a batch: claim, load, decide, render, hand over, record. A batch message is a hint; the rows are the truth.

What cannot be sent now is given back at once and left to the sweeper, so a message is over when its rows are.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random

from sqlalchemy.exc import DBAPIError, ProgrammingError

from taskbell.clock import Clock
from taskbell.contracts import SendBatch
from taskbell.database import Database
from taskbell.errors import DatabaseUnavailable
from taskbell.logs import logger
from taskbell.messaging.consuming.delivery import Received
from taskbell_notifier.delivery.compose import Composer
from taskbell_notifier.delivery.ledger import Ledger
from taskbell_notifier.kinds.table import Kinds
from taskbell_notifier.lifecycle import Change, Claimed, DeliveryState, after_submission, ended, returned
from taskbell_notifier.repository import contents
from taskbell_notifier.repository.contents import Person
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.smtp.replies import retry_delay

SUPPRESSED_SENDING = "MAIL_SUPPRESS_SEND is set"

AHEAD = 2
"""Mails for each SMTP session that are rendered or on their way; the others wait as rows."""

LOCKED_PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds before each try for rows that somebody has locked, mostly a sweeper that looks at those which wait long.

It may leave them as they are, and this message is then the one that sends them. What stays locked is left to it."""

CLOSE = 1.0
"""Seconds that batches under way have when the service ends and every submission has its verdict."""


class Sender:
    """The use case of `notifier.send_batch`.

    Args:
        sessions: SMTP sessions of the pool.
        suppress: do everything but the sending.
    """

    def __init__(
        self,
        database: Database,
        kinds: Kinds,
        ledger: Ledger,
        composer: Composer,
        pool: SmtpPool,
        clock: Clock,
        rng: Random,
        *,
        sessions: int,
        suppress: bool,
    ) -> None:
        self._database = database
        self._kinds = kinds
        self._ledger = ledger
        self._composer = composer
        self._pool = pool
        self._clock = clock
        self._rng = rng
        self._room = asyncio.Semaphore(AHEAD * sessions)
        self._suppress = suppress
        self._batches: set[asyncio.Task[None]] = set()
        self._closing = False
        self._worked: float | None = None
        self._log = logger("sender")

    def idle(self, seconds: float) -> bool:
        """Has there been nothing to send for so long?"""
        now = asyncio.get_running_loop().time()
        return not self._batches and (self._worked is None or now - self._worked >= seconds)

    async def send(self, messages: Sequence[Received[SendBatch]]) -> None:
        """Sends those of the batches' rows that may be sent now.

        The sending goes on when the caller is cancelled: that a broker is lost is no reason to break off a mail.

        Raises:
            DatabaseUnavailable: the rows could not be claimed or read; none was sent.
        """
        ids = [number for message in messages for number in message.body.delivery_ids]
        batch = asyncio.create_task(self._send(ids))
        self._batches.add(batch)
        batch.add_done_callback(self._over)
        await asyncio.shield(batch)

    async def close(self) -> None:
        """Waits for what is under way, a moment: the pool, closed before, lets nothing take long.

        What still waits then waits for PostgreSQL; the ledger, closed next, counts it.
        """
        self._closing = True
        if self._batches:
            await asyncio.wait(set(self._batches), timeout=CLOSE)

    def _over(self, batch: "asyncio.Task[None]") -> None:
        self._batches.discard(batch)
        self._worked = asyncio.get_running_loop().time()
        if not batch.cancelled() and (error := batch.exception()) is not None:
            self._log.debug("batch.unfinished", reason=repr(error))  # the caller has it too, if there is one left

    async def _send(self, ids: Sequence[int]) -> None:
        for pause in LOCKED_PAUSES:
            await asyncio.sleep(pause)
            rows = await self._ledger.claim(ids)
            await self._send_claimed(rows)
            taken = {row.id for row in rows}
            left = [it for it in ids if it not in taken]
            ids = await self._ledger.passed_over(left) if left else []
            if not ids or self._closing:
                break

    async def _send_claimed(self, rows: Sequence[Claimed]) -> None:
        try:
            loaded = await self._load(rows)
        except (DatabaseUnavailable, ProgrammingError) as error:
            for row in rows:
                away = isinstance(error, DatabaseUnavailable)
                self._ledger.record(returned(row, str(error)) if away else self._broken(row, error))
            raise
        await asyncio.gather(*(self._send_one(row, person, said) for row, person, said in loaded))

    async def _load(self, rows: Sequence[Claimed]) -> list[tuple[Claimed, Person, Mapping[int, object]]]:
        """What the mails need; what cannot be read of one person's rows leaves the others their mails.

        Raises:
            DatabaseUnavailable: PostgreSQL is away.
            ProgrammingError: the tables are not as they should be: that is no row's fault.
        """
        if not rows:
            return []
        try:
            async with self._database.transaction() as transaction:
                people = await contents.people(transaction, self._database.app, rows)
                said = await contents.contents(transaction, self._database.app, self._kinds, rows)
        except (DatabaseUnavailable, ProgrammingError):
            raise
        except Exception as error:  # noqa: BLE001 - one row's fault, most likely: the others go on without it
            if len(rows) > 1:
                half = len(rows) // 2
                return [*await self._load(rows[:half]), *await self._load(rows[half:])]
            self._log.error("mail.unreadable", delivery_id=rows[0].id, kind=rows[0].kind, exc_info=error)
            self._ledger.record(self._broken(rows[0], error))
            return []
        return [(row, people[row.id], said) for row in rows]

    async def _send_one(self, row: Claimed, person: Person, said: Mapping[int, object]) -> None:
        change = await self._attempt(row, person, said)
        try:
            await self._ledger.record(change)
        except DBAPIError as error:
            reason = str(error.orig).partition("\n")[0]  # PostgreSQL tells rows in the lines after it
            self._log.error("outcome.refused", delivery_id=row.id, state=change.state.value, reason=reason)

    async def _attempt(self, row: Claimed, person: Person, said: Mapping[int, object]) -> Change:
        try:
            draft = self._composer.decide(row, person, said)
            if isinstance(draft, Change):
                return draft
            async with self._room:
                envelope = self._composer.write(draft, self._clock.now())
                if self._suppress:
                    return ended(row, DeliveryState.SKIPPED, SUPPRESSED_SENDING, address=draft.address)
                submission = await self._pool.submit(envelope, partial(self._ledger.mark_data, row))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one mail, the others of its batch go out
            self._log.error("mail.broken", delivery_id=row.id, kind=row.kind, exc_info=error)
            return self._broken(row, error)
        return after_submission(row, submission, draft.address, self._rng)

    def _broken(self, row: Claimed, error: Exception) -> Change:
        """Our own mistake: tried again like a mail that was not taken, a newer version may do better."""
        state = DeliveryState.UNKNOWN if row.suspect else DeliveryState.RETRY
        reason = f"error: {type(error).__name__}"
        return Change(row.id, row.claim, state, reason, retry_delay(row.attempts, self._rng))
