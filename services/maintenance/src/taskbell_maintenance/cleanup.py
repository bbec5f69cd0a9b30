"""Cleanups: old completed tasks leave the app's table in small transactions, into an archive batch or for good.

All of a cleanup's state is its batch's row. Whoever goes on in a batch locks that row for a page's time, so a killed
cleanup is continued, and two deliveries of one command share the work instead of doing it twice.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from taskbell.commands import CommandLog, Outcome
from taskbell.contracts import CleanupCompletedTasks, TasksArchived
from taskbell.database import Database, Transaction
from taskbell.logs import logger
from taskbell.messaging.consuming.delivery import Received
from taskbell.messaging.consuming.holding import Returned
from taskbell.outbox import Outbox, OutboxMessage
from taskbell_maintenance.domain import FIRST_PAGE, Mode, Page, Progress, Survey, cutoff, next_size, refusal
from taskbell_maintenance.repository import batches
from taskbell_maintenance.repository.archive import Archive, Obstructed, Wanted
from taskbell_maintenance.repository.batches import Batch

Command = Received[CleanupCompletedTasks]


class Cleanups:
    """The use case of `maintenance.cleanup_completed_tasks`. A Part, to hear of the service's end between two pages.

    Args:
        retention_days: what older_than_days is where a command does not say.
        max_share: of all tasks; a cleanup that would take more needs `force`.
    """

    def __init__(
        self,
        database: Database,
        log: CommandLog,
        archive: Archive,
        outbox: Outbox,
        *,
        retention_days: int,
        max_share: Decimal,
    ) -> None:
        self.name = "cleanup"
        self._database = database
        self._log = log
        self._archive = archive
        self._outbox = outbox
        self._retention_days = retention_days
        self._max_share = max_share
        self._stopping = False
        self._logger = logger("cleanup")

    async def run(self, stop: asyncio.Event) -> None:
        """Waits for `stop`; a cleanup under way then gives its command back, for the next process to go on."""
        await stop.wait()
        self._stopping = True

    async def clean_up(self, commands: Sequence[Command]) -> None:
        """Carries out cleanups, one after the other."""
        for command in commands:
            outcome = await self._clean_up(command)
            self._log.reply(command.envelope, outcome)

    async def _clean_up(self, command: Command) -> Outcome:
        begun = await self._begin(command)
        if isinstance(begun, Outcome):
            return begun
        if isinstance(begun, Batch):
            await self._empty(begun)
            return await self._finish(command, begun)
        return await self._end(command, await self._rehearse(begun))

    async def _begin(self, command: Command) -> "Batch | Rehearsal | Outcome":
        """The batch to go on in, or of a dry run what it is to tell, or how the command has ended already."""
        body = command.body
        async with self._database.transaction() as transaction:
            if (known := await self._known(transaction, command)) is not None:
                return known
            at = body.occurrence or await transaction.value("SELECT now()")
        old = cutoff(at, self._retention_days if body.older_than_days is None else body.older_than_days)
        # Counting takes the longest, so it has a transaction of its own, in which nothing is written or locked.
        async with self._database.transaction() as transaction:
            survey = await self._archive.survey(transaction, old)
        reason = None if body.force else refusal(survey, self._max_share)
        if body.dry_run:
            return Rehearsal(body.mode, old, survey, reason)
        async with self._database.transaction() as transaction:
            if (known := await self._known(transaction, command)) is not None:
                return known  # another delivery of this command was quicker
            if reason is None:
                return await batches.open_batch(transaction, command, old)
            outcome = Outcome.rejected(reason, tasks=survey.old, of=survey.every)
            await self._log.finish(transaction, [(command, outcome)])
            return outcome

    async def _known(self, transaction: Transaction, command: Command) -> Batch | Outcome | None:
        """How the command has ended, or the batch that it has begun, if so. Other deliveries of it wait."""
        fresh, stored = await self._log.begin(transaction, [command])
        if not fresh:
            return stored[command.message_id]
        return None if command.body.dry_run else await batches.batch_of(transaction, command)

    async def _empty(self, batch: Batch) -> None:
        """Takes page after page, each in a transaction of its own."""
        pace = BatchPace()
        while not pace.over:
            self._go_on()
            with pace.page():
                async with self._database.transaction() as transaction:
                    progress, finished = await batches.lock_progress(transaction, batch)
                    if finished:
                        return
                    wanted = Wanted(batch.cutoff, progress.cursor, pace.size, batch, pace.carefully)
                    page = await self._archive.take(transaction, wanted)
                    await batches.record(transaction, batch, progress.after(page))
                pace.done(page)

    async def _rehearse(self, rehearsal: "Rehearsal") -> Outcome:
        """A dry run is the run itself, every page rolled back: it finds the same tasks, and those that are held."""
        progress, pace = Progress(), BatchPace()
        while not pace.over:
            self._go_on()
            with pace.page():
                async with self._database.transaction() as transaction:
                    wanted = Wanted(rehearsal.cutoff, progress.cursor, pace.size, None, pace.carefully)
                    page = await self._archive.take(transaction, wanted)
                    await transaction.connection.rollback()
                progress = progress.after(page)
                pace.done(page)
        told = {"of": rehearsal.survey.every} | ({"needs_force": rehearsal.reason} if rehearsal.reason else {})
        return Outcome.done(dry_run=True, **_result(rehearsal.mode, rehearsal.cutoff, progress), **told)

    async def _finish(self, command: Command, batch: Batch) -> Outcome:
        """Ends the batch, once, with its event; a command that shared it gets the same outcome."""
        async with self._database.transaction() as transaction:
            fresh, stored = await self._log.begin(transaction, [command])
            if not fresh:
                return stored[command.message_id]
            progress, _ = await batches.lock_progress(transaction, batch)
            outcome = Outcome.done(batch_id=batch.id, dry_run=False, **_result(batch.mode, batch.cutoff, progress))
            if await batches.finish(transaction, batch):
                event = TasksArchived(batch_id=batch.id, tasks=progress.tasks, held=progress.held, mode=batch.mode)
                correlation_id = command.envelope.correlation_id or command.message_id
                await self._outbox.add(transaction, [OutboxMessage(event, correlation_id=correlation_id)])
            await self._log.finish(transaction, [(command, outcome)])
        self._logger.info("cleanup.finished", batch_id=batch.id, tasks=progress.tasks, held=progress.held)
        return outcome

    async def _end(self, command: Command, outcome: Outcome) -> Outcome:
        async with self._database.transaction() as transaction:
            fresh, stored = await self._log.begin(transaction, [command])
            if not fresh:
                return stored[command.message_id]
            await self._log.finish(transaction, [(command, outcome)])
        return outcome

    def _go_on(self) -> None:
        if self._stopping:
            msg = "the service stops; the next one goes on"
            raise Returned(msg)


class BatchPace:
    """How large the next page may be, and whether it must be taken carefully."""

    def __init__(self) -> None:
        self.size = FIRST_PAGE
        self.carefully = False
        self.over = False

    @contextmanager
    def page(self) -> Iterator[None]:
        """Takes the time of a page; one that is obstructed is taken again, carefully."""
        started = time.perf_counter()
        try:
            yield
        except Obstructed:
            self.carefully = True
        self.size = next_size(self.size, time.perf_counter() - started)

    def done(self, page: Page) -> None:
        """That page is taken; where nothing of it was held, the next one needs no care."""
        self.carefully, self.over = bool(page.held), page.last


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A dry run, begun."""

    mode: Mode
    cutoff: datetime
    survey: Survey
    reason: str | None
    """Why the run itself would need force."""


def _result(mode: Mode, old: datetime, progress: Progress) -> dict[str, Any]:
    return {
        "mode": mode,
        "cutoff": old.isoformat(),
        "tasks": progress.tasks,
        "held": progress.held,
        "held_ids": list(progress.held_ids),
        "held_reasons": list(progress.held_reasons),
    }
