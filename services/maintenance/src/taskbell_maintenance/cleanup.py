"""Cleanups: old completed tasks are moved in small transactions from the app's table to an archive batch, or deleted.

The whole state of a cleanup is its batch's row, which is locked while a page is taken. So a killed cleanup is
continued, and two deliveries of one command share the work instead of doing it twice.
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
from taskbell.errors import Returned
from taskbell.logs import logger
from taskbell.messaging.consuming.delivery import Received
from taskbell.outbox import Outbox, OutboxMessage
from taskbell_maintenance.domain import FIRST_PAGE, Mode, Page, Progress, Survey, cutoff, next_size, refusal
from taskbell_maintenance.repository import archive, batches
from taskbell_maintenance.repository.archive import Obstructed, PageRequest
from taskbell_maintenance.repository.batches import AnothersBatch, Batch
from taskbell_maintenance.repository.locks import TaskLocks

CleanupCommand = Received[CleanupCompletedTasks]


class Cleanups:
    """The use case of `maintenance.cleanup_completed_tasks`. Also a Part, so that it can stop between two pages.

    Args:
        retention_days: the default of a command's older_than_days.
        max_share: a cleanup that would take a larger share of all tasks needs `force`.
    """

    def __init__(
        self,
        database: Database,
        commands: CommandLog,
        locks: TaskLocks,
        outbox: Outbox,
        *,
        retention_days: int,
        max_share: Decimal,
    ) -> None:
        self.name = "cleanup"
        self._database = database
        self._commands = commands
        self._locks = locks
        self._outbox = outbox
        self._retention_days = retention_days
        self._max_share = max_share
        self._stopping = False
        self._log = logger("cleanup")

    async def run(self, stop: asyncio.Event) -> None:
        """Waits for `stop`. A cleanup under way then returns its command to the queue, and the next process goes on."""
        await stop.wait()
        self._stopping = True

    async def clean_up(self, commands: Sequence[CleanupCommand]) -> None:
        """Carries out cleanups, one after the other."""
        for command in commands:
            outcome = await self._clean_up(command)
            self._commands.reply(command.envelope, outcome)

    async def _clean_up(self, command: CleanupCommand) -> Outcome:
        begun = await self._begin(command)
        if isinstance(begun, Outcome):
            return begun
        if isinstance(begun, Batch):
            await self._take_all(begun)
            return await self._finish(command, begun)
        return await self._end(command, await self._dry_run(begun))

    async def _begin(self, command: CleanupCommand) -> "Batch | DryRun | Outcome":
        """The batch to continue; or the dry run to make; or the outcome, if the command has ended already."""
        body = command.body
        async with self._database.transaction() as transaction:
            if (known := await self._known(transaction, command)) is not None:
                return known
            at = body.occurrence or await transaction.value("SELECT now()")
        old = cutoff(at, self._retention_days if body.older_than_days is None else body.older_than_days)
        # Counting takes longest, so it has its own transaction, in which nothing is written or locked.
        async with self._database.transaction() as transaction:
            survey = await archive.survey(transaction, self._locks.app, old)
        reason = None if body.force else refusal(survey, self._max_share)
        if body.dry_run:
            return DryRun(body.mode, old, survey, reason)
        async with self._database.transaction() as transaction:
            if (known := await self._known(transaction, command)) is not None:
                return known  # another delivery of this command was faster
            if reason is None:
                opened = await batches.open_batch(transaction, command, old)
                return opened or await self._batch(transaction, command)
            outcome = Outcome.rejected(reason, tasks=survey.old, of=survey.every)
            await self._commands.finish(transaction, [(command, outcome)])
            return outcome

    async def _known(self, transaction: Transaction, command: CleanupCommand) -> Batch | Outcome | None:
        """The command's outcome, or the batch that it has begun, if any."""
        outcome = await self._commands.begin(transaction, command)
        if outcome is not None:
            return outcome
        try:
            return None if command.body.dry_run else await batches.batch_of(transaction, command)
        except AnothersBatch:
            return await self._commands.reject_another(transaction, command)

    async def _batch(self, transaction: Transaction, command: CleanupCommand) -> Batch | Outcome:
        """The batch that another delivery has begun since we looked; or the outcome, if it was another command's."""
        known = await self._known(transaction, command)
        assert known is not None  # batches are never deleted
        return known

    async def _take_all(self, batch: Batch) -> None:
        """Takes page after page, each in its own transaction."""
        pace = BatchPace()
        while not pace.over:
            self._check_stopping()
            with pace.page():
                async with self._database.transaction() as transaction:
                    progress, finished = await batches.lock_progress(transaction, batch)
                    if finished:
                        return
                    request = PageRequest(batch.cutoff, progress.cursor, pace.size, batch, pace.carefully)
                    page = await archive.take(transaction, self._locks, request)
                    await batches.record(transaction, batch, progress.after(page))
                pace.done(page)

    async def _dry_run(self, dry_run: "DryRun") -> Outcome:
        """Does everything that a run does and rolls every page back, so it finds the same tasks, held ones included."""
        progress, pace = Progress(), BatchPace()
        while not pace.over:
            self._check_stopping()
            with pace.page():
                async with self._database.transaction() as transaction:
                    request = PageRequest(dry_run.cutoff, progress.cursor, pace.size, None, pace.carefully)
                    page = await archive.take(transaction, self._locks, request)
                    await transaction.connection.rollback()
                progress = progress.after(page)
                pace.done(page)
        more = {"of": dry_run.survey.every} | ({"needs_force": dry_run.reason} if dry_run.reason else {})
        return Outcome.done(dry_run=True, **_result(dry_run.mode, dry_run.cutoff, progress), **more)

    async def _finish(self, command: CleanupCommand, batch: Batch) -> Outcome:
        """Ends the batch, and adds its event once. Another command that shared the batch gets the same outcome."""
        async with self._database.transaction() as transaction:
            progress, _ = await batches.lock_progress(transaction, batch)
            outcome = Outcome.done(batch_id=batch.id, dry_run=False, **_result(batch.mode, batch.cutoff, progress))
            outcome = await self._commands.end(transaction, command, outcome)
            if await batches.finish(transaction, batch):
                event = TasksArchived(batch_id=batch.id, tasks=progress.tasks, held=progress.held, mode=batch.mode)
                correlation_id = command.envelope.correlation_id or command.message_id
                await self._outbox.add(transaction, [OutboxMessage(event, correlation_id=correlation_id)])
        self._log.info("cleanup.finished", batch_id=batch.id, tasks=progress.tasks, held=progress.held)
        return outcome

    async def _end(self, command: CleanupCommand, outcome: Outcome) -> Outcome:
        async with self._database.transaction() as transaction:
            return await self._commands.end(transaction, command, outcome)

    def _check_stopping(self) -> None:
        if self._stopping:
            msg = "the service is stopping; the next process continues this cleanup"
            raise Returned(msg)


class BatchPace:
    """How large the next page may be, and whether it must be taken carefully."""

    def __init__(self) -> None:
        self.size = FIRST_PAGE
        self.carefully = False
        self.over = False

    @contextmanager
    def page(self) -> Iterator[None]:
        """Measures how long a page takes. If the page is obstructed, the next try takes it carefully."""
        started = time.perf_counter()
        try:
            yield
        except Obstructed:
            self.carefully = True
        self.size = next_size(self.size, time.perf_counter() - started)

    def done(self, page: Page) -> None:
        """Records that the page was taken. The next one is taken carefully only if tasks of this one were held."""
        self.carefully, self.over = bool(page.held), page.last


@dataclass(frozen=True, slots=True)
class DryRun:
    """A dry run to make."""

    mode: Mode
    cutoff: datetime
    survey: Survey
    reason: str | None
    """Why the real cleanup would need force; None: it would not."""


def _result(mode: Mode, old: datetime, progress: Progress) -> dict[str, Any]:
    return {
        "mode": mode,
        "cutoff": old.isoformat(),
        "tasks": progress.tasks,
        "held": progress.held,
        "held_ids": list(progress.held_ids),
        "held_reasons": list(progress.held_reasons),
    }
