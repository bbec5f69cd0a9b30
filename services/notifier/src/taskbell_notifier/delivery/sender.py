"""Sends a batch: claims its rows, loads, decides, renders, hands over, and records.

A batch message only names rows; the rows themselves say if they are to be sent. A row that cannot be sent now is
returned at once and left to the sweeper, so that the message is done as soon as its rows are.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from random import Random

from sqlalchemy.exc import DBAPIError, NotSupportedError

from taskbell.clock import Clock
from taskbell.contracts import SendBatch
from taskbell.database import Database, is_passing, sqlstate
from taskbell.errors import DatabaseUnavailable
from taskbell.logs import logger
from taskbell.messaging.consuming.delivery import Received
from taskbell_notifier.delivery.compose import Composer
from taskbell_notifier.delivery.ledger import Ledger
from taskbell_notifier.kinds.pauses import Pauses
from taskbell_notifier.kinds.table import Kinds
from taskbell_notifier.lifecycle import Change, Claimed, DeliveryState, after_submission, cancelled, ended, returned
from taskbell_notifier.repository import contents
from taskbell_notifier.repository.contents import Person
from taskbell_notifier.repository.planning import BATCH
from taskbell_notifier.repository.statements import StatementError, TooManyRows, said_of
from taskbell_notifier.smtp.pool import SmtpPool
from taskbell_notifier.smtp.replies import Verdict, retry_delay

SUPPRESSED_SENDING = "MAIL_SUPPRESS_SEND is set"

MAILS_AHEAD = 2
"""Mails for each SMTP session that are rendered or being handed over; the others wait as rows."""

LOCKED_PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds before each try to claim rows that another transaction has locked, mostly a sweeper.

The sweeper may leave such rows as they are, so this message still has to send them. Rows that stay locked for all tries
are left to the sweeper."""

OF_STATEMENT = ("0A", "42")
"""Classes of SQLSTATE: feature not supported, syntax error or access rule violation."""

LONG = 1.0
"""Seconds that reading what one kind's mails say takes at most, unless something is wrong with its statement."""

CLOSE = 1.0
"""Seconds that a stopping service gives to batches under way; every submission has its verdict by then."""


class Sender:
    """The use case of `notifier.send_batch`.

    Args:
        sessions: the number of SMTP sessions of the pool.
        suppress: True: do everything but the sending.
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
        self._slots = asyncio.Semaphore(MAILS_AHEAD * sessions)
        self._suppress = suppress
        self._pauses = Pauses(0.0)
        """Kinds whose statement took long and failed."""
        self._batches: set[asyncio.Task[None]] = set()
        self._closing = False
        self._last_ended: float | None = None
        self._log = logger("sender")

    def idle(self, seconds: float) -> bool:
        """True if no batch was under way in the last `seconds`."""
        now = asyncio.get_running_loop().time()
        return not self._batches and (self._last_ended is None or now - self._last_ended >= seconds)

    async def send(self, messages: Sequence[Received[SendBatch]]) -> None:
        """Sends those of the batches' rows that may be sent now.

        The sending goes on if the caller is cancelled: a lost broker must not end a mail that is being handed over.

        Raises:
            DatabaseUnavailable: the rows could not be claimed or read; none was sent.
        """
        ids = [number for message in messages for number in message.body.delivery_ids]
        batch = asyncio.create_task(self._send(ids))
        self._batches.add(batch)
        batch.add_done_callback(self._batch_ended)
        await asyncio.shield(batch)

    async def close(self) -> None:
        """Waits at most CLOSE seconds for batches under way; the pool was closed before, so they end soon.

        A batch that has not ended then waits for PostgreSQL; the ledger, which is closed next, counts its outcomes.
        """
        self._closing = True
        if self._batches:
            await asyncio.wait(set(self._batches), timeout=CLOSE)

    def _batch_ended(self, batch: "asyncio.Task[None]") -> None:
        self._batches.discard(batch)
        self._last_ended = asyncio.get_running_loop().time()
        if not batch.cancelled() and (error := batch.exception()) is not None:
            # The caller gets it too, unless it was cancelled.
            self._log.debug("batch.unfinished", reason=repr(error))

    async def _send(self, ids: Sequence[int]) -> None:
        for pause in LOCKED_PAUSES:
            await asyncio.sleep(pause)
            rows = await self._ledger.claim(ids)
            await self._send_claimed(rows)
            taken = {row.id for row in rows}
            left = [it for it in ids if it not in taken]
            ids = await self._ledger.locked(left) if left else []
            if not ids or self._closing:
                break

    async def _send_claimed(self, rows: Sequence[Claimed]) -> None:
        paused = {kind: left for kind in {row.kind for row in rows} if (left := self._pauses.left(kind)) is not None}
        if paused:
            changes = [_put_off(row, *paused[row.kind]) for row in rows if row.kind in paused]
            await asyncio.gather(*map(self._record, changes))
            rows = [row for row in rows if row.kind not in paused]
        try:
            loaded = await self._load(rows)
        except DatabaseUnavailable as error:
            for row in rows:
                self._ledger.record(returned(row, str(error)))
            raise
        await asyncio.gather(*(self._send_one(row, person, found) for row, person, found in loaded))

    async def _load(self, rows: Sequence[Claimed]) -> list[tuple[Claimed, Person, Mapping[int, object]]]:
        """Each row with its person and the contents by delivery id.

        If one row cannot be read, or the rows of one kind, the others go on.

        Raises:
            DatabaseUnavailable: PostgreSQL is away.
        """
        if not rows:
            return []
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with self._database.transaction() as transaction:
                people = await contents.people(transaction, self._database.app, rows)
                found = await contents.contents(transaction, self._database.app, self._kinds, rows)
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - most likely the fault of one row or kind: the others go on
            took = loop.time() - began
            return [it for part in self._parts(rows, error, took) for it in await self._load(part)]
        for kind in {row.kind for row in rows}:
            self._pauses.over(kind)
        return [(row, people[row.id], found) for row in rows]

    def _parts(self, rows: Sequence[Claimed], error: Exception, took: float) -> Sequence[Sequence[Claimed]]:
        """The parts in which to read rows that cannot be read together; none if they are to be tried again later.

        Args:
            took: the seconds after which the error came.
        """
        kinds = {row.kind for row in rows}
        if len(kinds) > 1:
            return [[row for row in rows if row.kind == kind] for kind in kinds]
        if len(rows) > _smallest(rows, error, took):
            half = len(rows) // 2
            return [rows[:half], rows[half:]]
        ids = {"delivery_ids": [row.id for row in rows]} if len(rows) > 1 else {"delivery_id": rows[0].id}
        self._log.error("mail.unreadable", kind=rows[0].kind, exc_info=error, **ids)
        if took > LONG:
            self._pauses.add(rows[0].kind, f"error: {_words(error)}", took=took)
        for row in rows:
            self._ledger.record(self._broken(row, error))
        return []

    async def _send_one(self, row: Claimed, person: Person, found: Mapping[int, object]) -> None:
        await self._record(await self._attempt(row, person, found))

    async def _record(self, change: Change) -> None:
        try:
            await self._ledger.record(change)
        except DBAPIError as error:
            # The lines after the first may contain the row.
            self._log.error("outcome.refused", delivery_id=change.id, state=change.state.value, reason=said_of(error))

    async def _attempt(self, row: Claimed, person: Person, found: Mapping[int, object]) -> Change:
        try:
            draft = self._composer.decide(row, person, found)
            if isinstance(draft, Change):
                return draft
            async with self._slots:
                if self._ledger.is_cancelled(row):
                    return cancelled(row)
                mail = self._composer.write(draft, self._clock.now())
                if self._suppress:
                    return ended(row, DeliveryState.SKIPPED, SUPPRESSED_SENDING, address=draft.address)
                submission = await self._pool.submit(mail, partial(self._ledger.mark_data, row))
        except Exception as error:  # noqa: BLE001 - a mail that fails must not stop the others of its batch
            self._log.error("mail.broken", delivery_id=row.id, kind=row.kind, exc_info=error)
            return self._broken(row, error)
        if submission.verdict is Verdict.NOT_SENT and self._ledger.is_cancelled(row):
            return cancelled(row)
        return after_submission(row, submission, draft.address, self._rng)

    def _broken(self, row: Claimed, error: Exception) -> Change:
        """The change after a mistake of our own: the mail is tried again, as a newer version may succeed."""
        state = DeliveryState.UNKNOWN if row.was_unknown else DeliveryState.RETRY
        reason = f"error: {_words(error)}"
        return Change(row.id, row.claim, state, reason, retry_delay(row.attempts, self._rng))


def _put_off(row: Claimed, seconds: float, reason: str) -> Change:
    return returned(row, reason, timedelta(seconds=seconds))


def _smallest(rows: Sequence[Claimed], error: Exception, took: float) -> int:
    """The number of rows that are not read in halves any more after that error."""
    if _is_of_statement(error):
        return len(rows)
    if took > LONG or (isinstance(error, DBAPIError) and is_passing(error)):
        # Each part may take as long. One row may be what makes it long, so the parts are smaller at each try.
        return max(1, BATCH >> (min(row.attempts for row in rows) - 1))
    return 1


def _is_of_statement(error: Exception) -> bool:
    """Whether each row would fail in the same way, because tables or the statement are not as they should be."""
    if isinstance(error, StatementError):
        return not isinstance(error, TooManyRows)
    # A statement that was prepared before a table changed is prepared anew the next time: SQLAlchemy says NotSupported.
    return (
        isinstance(error, DBAPIError)
        and not isinstance(error, NotSupportedError)
        and (sqlstate(error) or "").startswith(OF_STATEMENT)
    )


def _words(error: Exception) -> str:
    """What people read of an error. It has no values, which may be anybody's."""
    if isinstance(error, DBAPIError) and (_is_of_statement(error) or is_passing(error)):
        return said_of(error)  # names tables and columns, or what was waited for
    return str(error) if isinstance(error, StatementError) else type(error).__name__
